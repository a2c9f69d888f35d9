"""UtilityAPI as a source of usage: `source` is its settings and how it is followed.

`events` says where to look, `meters` how each stands (`states`, `records`), `downloads` brings
what was measured, `api` asks as politely as is asked for.
"""

from bridge.sources.utilityapi.source import UtilityAPI

__all__ = ["UtilityAPI"]
