"""A stock OpenLEADR VTN in a process of its own that asks for reports and takes opts.

As `bridge.demo.utility`, and beside it: `report` in its settings is [sampling, every] in seconds;
lines on stdout `{"report": …}` and `{"created_opt": …}`.
"""

import asyncio
import json
import sys
from datetime import timedelta

from aiohttp import web
from openleadr.service import VTNService, handler, service

from bridge.demo import utility
from bridge.demo.utility import say


@service("EiOpt")
class Opts(VTNService):
    """The library has a service for opts, but none that answers."""

    @handler("oadrCreateOpt")
    async def create(self, payload):
        say(created_opt={k: str(payload[k]) for k in ("opt_id", "opt_type", "ven_id")})
        return "oadrCreatedOpt", {"opt_id": payload["opt_id"]}

    @handler("oadrCancelOpt")
    async def cancel(self, payload):
        say(canceled_opt=payload["opt_id"])
        return "oadrCanceledOpt", {"opt_id": payload["opt_id"]}


class Utility(utility.Utility):
    def __init__(self, settings):
        super().__init__(settings)
        self._sampling, self._every = (timedelta(seconds=s) for s in settings["report"])
        self.vtn.add_handler("on_register_report", self._offered)
        self.vtn.add_handler("on_cancel_party_registration", self._cancelled)
        opts = Opts("UTILITY")
        self.vtn.services["opt_service"] = opts
        self.vtn.app.add_routes([web.post(f"{utility.PREFIX}/EiOpt", opts.handler)])

    def _offered(
        self,
        ven_id,
        resource_id,
        measurement,
        unit,
        scale,
        min_sampling_interval,
        max_sampling_interval,
    ):
        def keep(values):
            say(report=resource_id, values=[[at.isoformat(), value] for at, value in values])

        return keep, self._sampling, self._every

    def _cancelled(self, payload):
        return "oadrCanceledPartyRegistration", {
            "registration_id": payload["registration_id"],
            "ven_id": payload["ven_id"],
        }


if __name__ == "__main__":
    utility.Utility = Utility  # what `serve` starts
    asyncio.run(utility.serve(json.loads(sys.argv[1])))
