"""`/notifiers`: how clients can be notified, and on which MQTT topics."""

from dataclasses import dataclass

from aiohttp import web

from bridge.errors import Unknown
from bridge.model import Document
from bridge.parties import Objects as Catalog
from bridge.vtn.openadr3.kinds import BASE
from bridge.web import CALLER, Problem, Route, reply_json
from bridge.wire import openadr3_topics as names

ALL, OWN = ("read_all", "read_targets"), ("read_all", "read_ven_objects")
BUSINESS_LOGIC = ("read_all", "read_bl")


@dataclass(frozen=True, slots=True)
class Broker:
    """The MQTT broker as clients are told of it."""

    uris: tuple[str, ...]
    authentication: Document
    private_topics: bool


class Notifiers:
    """Says how clients can be notified."""

    def __init__(self, catalog: Catalog, broker: Broker | None) -> None:
        self._catalog, self._broker = catalog, broker

    def routes(self) -> list[Route]:
        """Return the routes: what is on, and the topics."""
        topics = f"{BASE}/notifiers/mqtt/topics"
        summary = "MQTT topics of notifications"
        return [
            Route("GET", f"{BASE}/notifiers", self.bindings, ALL, "How clients are notified",
                  anonymous=True),
            *(
                Route("GET", f"{topics}/{template}", self._topics(template), scope, summary,
                      answers=(200, 404), anonymous=scope is ALL)
                for scope, templates in (
                    (ALL, names.SHARED), (BUSINESS_LOGIC, names.OF_BUSINESS_LOGIC),
                    (OWN, names.OF_VENS),
                )
                for template in templates
            ),
        ]  # fmt: skip

    async def bindings(self, _request: web.Request) -> web.Response:
        """GET /notifiers."""
        said: Document = {"WEBHOOK": True}
        if self._broker:
            said["MQTT"] = {
                "URIS": list(self._broker.uris),
                "serialization": "JSON",
                "authentication": self._broker.authentication,
            }
        return reply_json(said)

    def _topics(self, template: str):  # type: ignore[no-untyped-def]
        async def topics(request: web.Request) -> web.Response:
            if self._broker is None:
                raise Problem(404, "MQTT is not offered; /notifiers says what is")
            if not (template in names.SHARED or self._broker.private_topics):
                raise Problem(404, "this broker has no topics that are not for all")
            path = template
            for kind, name in (("PROGRAM", "programID"), ("VEN", "venID")):
                if f"{{{name}}}" in template:
                    object_id = request.match_info[name]
                    await self._need(request, kind, object_id)
                    path = path.replace(f"{{{name}}}", object_id)
            return reply_json({"topics": names.topics(template, path)})

        return topics

    async def _need(self, request: web.Request, kind: str, object_id: str) -> None:
        try:
            await self._catalog.read(kind, object_id, request[CALLER])
        except Unknown as error:
            raise Problem(404, str(error)) from error
