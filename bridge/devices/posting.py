"""How a message is posted, and what the answer means: for devices and subscribers alike."""

from collections.abc import Mapping
from datetime import datetime

from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientSession, ClientTimeout
from yarl import URL

from bridge.errors import DeviceError, Gone, Refused
from bridge.notation import read_retry_after

# What a receiver will not take now, it will not take later either.
NEVER = {400, 405, 406, 411, 413, 414, 415, 422, 431}


async def post(
    http: ClientSession,
    url: str | URL,
    body: bytes,
    headers: Mapping[str, str],
    timeout: ClientTimeout,
    now: datetime,
) -> None:
    """Make one attempt; raise DeviceError, Refused or Gone where it is not answered with 2xx."""
    try:
        async with http.post(
            url, data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as reply:
            _judge(reply, now)
    except TimeoutError as error:
        raise DeviceError(f"no answer within {timeout.total:g} s") from error
    except ClientConnectorError as error:
        raise DeviceError(f"cannot be reached: {error.os_error.strerror}") from error
    except (ClientError, OSError) as error:
        raise DeviceError(f"{type(error).__name__}: {error}") from error


def _judge(reply: ClientResponse, now: datetime) -> None:
    """Return on 2xx; raise what else the answer means."""
    if 200 <= reply.status < 300:
        return
    problem = f"answered {reply.status} {reply.reason or ''}".strip()
    if reply.status == 410:
        raise Gone(problem)
    if reply.status in NEVER:
        raise Refused(problem)
    raise DeviceError(problem, read_retry_after(reply.headers.get("Retry-After"), now))
