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
    """Yield the topics, open to all, on which a notice is published."""
    if notice.audiences:
        return
    if notice.kind == "PROGRAM":
        yield topic("programs", notice.operation)
        if notice.operation != "CREATE":
            yield topic(f"programs/{notice.document['id']}", notice.operation)
    if notice.kind == "EVENT":
        yield topic(f"programs/{notice.program}/events", notice.operation)


def of_business_logic(notice: Notice) -> Iterator[str]:
    """Yield the topics, open to business logic only, on which a notice is published."""
    if notice.kind != "PROGRAM":
        yield topic(_COLLECTION[notice.kind], notice.operation)


def of_ven(notice: Notice, ven: str) -> Iterator[str]:
    """Yield the topics, open to one ven only, on which a notice that concerns it is published."""
    if notice.kind in {"PROGRAM", "EVENT"} and notice.audiences:
        yield topic(f"vens/{ven}/{_COLLECTION[notice.kind]}", notice.operation)
    if notice.kind == "RESOURCE" and notice.ven == ven:
        yield topic(f"vens/{ven}/resources", notice.operation)
    if notice.kind == "VEN" and notice.ven == ven and notice.operation != "CREATE":
        yield topic(f"vens/{ven}", notice.operation)
