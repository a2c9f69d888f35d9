"""The names of MQTT topics for notifications; clients discover them and assume nothing.

OpenADR 3.1.0 Definition, Notifications via Additional Protocols. What is aimed at nobody goes
to topics that all share; the rest goes to topics of one ven, or of business logic.
"""

from collections.abc import Iterator, Mapping

from bridge.parties import Notice

PREFIX = "OpenADR/3.1.0"
OPERATIONS = ("CREATE", "UPDATE", "DELETE")
SHARED = ("programs", "programs/{programID}", "programs/{programID}/events")
OF_BUSINESS_LOGIC = ("events", "reports", "subscriptions", "vens", "resources")
OF_VENS = ("vens/{venID}", "vens/{venID}/events", "vens/{venID}/programs", "vens/{venID}/resources")
_ONE_OBJECT = {"programs/{programID}", "vens/{venID}"}  # nobody can wait for its creation
_COLLECTION = {
    "PROGRAM": "programs", "EVENT": "events", "REPORT": "reports",
    "SUBSCRIPTION": "subscriptions", "VEN": "vens", "RESOURCE": "resources",
}  # fmt: skip


def topic(path: str, operation: str) -> str:
    """Return the topic of an operation on what stands at a path."""
    return f"{PREFIX}/{path}/{operation.lower()}"


def topics(template: str, path: str) -> Mapping[str, str]:
    """Return a path's topics by operation, as they are told to clients."""
    operations = [op for op in OPERATIONS if op != "CREATE" or template not in _ONE_OBJECT]
    return {**{op: topic(path, op) for op in operations}, "ALL": f"{PREFIX}/{path}/+"}


def shared(notice: Notice) -> Iterator[str]:
    """Yield the paths, open to all, at which a notice may be published: if it `is_shared`."""
    if notice.kind == "PROGRAM":
        yield "programs"
        yield f"programs/{notice.document['id']}"
    if notice.kind == "EVENT":
        former = notice.former.program if notice.former else notice.program
        for program in dict.fromkeys((former, notice.program)):
            yield f"programs/{program}/events"


def is_shared(path: str, notice: Notice) -> bool:
    """Whether an object, as it is or was, belongs at a path that is open to all."""
    elsewhere = notice.kind == "EVENT" and path != f"programs/{notice.program}/events"
    return not notice.audiences and not elsewhere


def is_one_object(notice: Notice, path: str) -> bool:
    """Whether a path is that of the object itself."""
    return path.endswith(f"/{notice.document['id']}")


def of_business_logic(notice: Notice) -> Iterator[str]:
    """Yield the paths, open to business logic only, at which a notice is published."""
    if notice.kind != "PROGRAM":
        yield _COLLECTION[notice.kind]


def of_its_ven(notice: Notice) -> Iterator[str]:
    """Yield the paths, open to one ven only, of the ven itself and its resources."""
    if notice.kind == "RESOURCE":
        yield f"vens/{notice.ven}/resources"
    if notice.kind == "VEN":
        yield f"vens/{notice.ven}"


def aimed_at(notice: Notice, ven: str) -> str:
    """Return the path, open to one ven only, of programs or events that are aimed at it."""
    return f"vens/{ven}/{_COLLECTION[notice.kind]}"


def ven_of(topic_name: str) -> str | None:
    """Return the ven that a topic is open to only, if it is such a topic."""
    steps = topic_name.removeprefix(f"{PREFIX}/").split("/")
    return steps[1] if steps[0] == "vens" and len(steps) > 2 else None
