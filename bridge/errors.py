"""What can go wrong, as a tree.

BridgeError
  SettingsError     the settings cannot be used; stop and say so (exit 2)
  StoreError        the store cannot be opened, written or trusted; stop (exit 1)
  ObjectError       what a client asks of an object cannot be done
    Unknown         there is no such object, for this client at least (404)
    Conflict        it contradicts another object (409)
    Forbidden       this client may not do it (403)
    Unfit           it makes no sense (400)
  WireError         a message is not what its format says; nothing of it is used
  SourceError       an upstream failed; wait and ask again
    Unregistered    it no longer knows us; register again
    Unreachable     it does not answer at all
  DeviceError       a device failed; send again later
    Refused         it will never take this delivery; give it up
    Gone            it asks never to be sent anything again (410); disable it
"""


class BridgeError(Exception):
    """Anything the bridge raises on purpose."""


class SettingsError(BridgeError):
    """The settings cannot be used; the message names the file and the field."""


class StoreError(BridgeError):
    """The store cannot be opened, written or trusted."""


class ObjectError(BridgeError):
    """What a client asks of an object cannot be done; the message says why."""


class Unknown(ObjectError):  # noqa: N818 -- reads as a fact at the raise
    """There is no such object, or it is hidden from this client: the two look alike."""


class Conflict(ObjectError):  # noqa: N818 -- reads as a fact at the raise
    """It contradicts another object: a name that is taken, a program that is not there."""


class Forbidden(ObjectError):  # noqa: N818 -- reads as a fact at the raise
    """A client may see the object, but not do this with it."""


class Unfit(ObjectError):  # noqa: N818 -- reads as a fact at the raise
    """What is asked makes no sense."""


class WireError(BridgeError):
    """A message is not what its format says."""


class SourceError(BridgeError):
    """An upstream failed; asking again later may help.

    `retry_after` is the wait in seconds that the upstream itself asked for.
    """

    def __init__(self, problem: str, retry_after: float = 0) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


class Unregistered(SourceError):  # noqa: N818 -- reads as a fact at the raise
    """The upstream does not know this VEN, or not any more."""


class Unreachable(SourceError):  # noqa: N818 -- reads as a fact at the raise
    """The upstream does not answer at all, whatever it is asked."""


class DeviceError(BridgeError):
    """A device failed; sending again later may help.

    `retry_after` is the wait in seconds that the device itself asked for.
    """

    def __init__(self, problem: str, retry_after: float = 0) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


class Refused(DeviceError):  # noqa: N818 -- reads as a fact at the raise
    """A device will never take this delivery."""


class Gone(DeviceError):  # noqa: N818 -- reads as a fact at the raise
    """A device asks never to be sent anything again."""
