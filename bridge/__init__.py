"""openadr-bridge: from a utility's OpenADR signals to the devices of a site."""

from importlib.metadata import version

__version__ = version("openadr-bridge")
