"""Callback URLs of subscriptions: allowed by the policy, and truly the subscriber's.

OpenADR 3.1.0 Definition, Security, Webhooks.
"""

import asyncio
import secrets
from typing import Literal

from aiohttp import ClientError, ClientTimeout

from bridge.errors import Unfit
from bridge.model import Document
from bridge.outbound import NOT_PUBLIC, Guarded, Policy

Challenge = Literal["required", "best_effort", "off"]
TIMEOUT = ClientTimeout(total=10)
AT_ONCE = 8  # challenges, of all clients together
LONGEST_ECHO = 4096  # bytes of an answer that are looked at


class Callbacks:
    """Checks callback URLs when a subscription is written."""

    def __init__(self, policy: Policy, challenge: Challenge) -> None:
        self._policy, self._challenge = policy, challenge
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def check(self, subscription: Document) -> None:
        """Raise Unfit where one of a subscription's callback URLs cannot be used."""
        for url in dict.fromkeys(e["callbackUrl"] for e in subscription["objectOperations"]):
            async with self._turns:
                await self._check(url)

    async def _check(self, text: str) -> None:
        url = await self._policy.check(text)
        if self._challenge == "off":
            return
        word = secrets.token_urlsafe(24)
        problem = None
        try:
            async with (
                self._policy.session() as http,
                http.get(
                    url.update_query(echo=word), timeout=TIMEOUT, allow_redirects=False
                ) as reply,
            ):
                said = await reply.content.read(LONGEST_ECHO)
                if reply.status != 200 or word.encode() not in said:
                    problem = f"answered {reply.status} without the word"
        except (ClientError, OSError, TimeoutError) as error:
            if _is_guarded(error):
                raise Unfit(NOT_PUBLIC) from error
            problem = f"did not answer ({type(error).__name__})"
        if problem and self._challenge == "required":
            raise Unfit(
                f"callbackUrl: {url.origin()} {problem}; GET callbackUrl?echo=WORD must be"
                " answered with 200 and the word in the body"
            )


def _is_guarded(error: BaseException) -> bool:
    return isinstance(error, Guarded) or isinstance(getattr(error, "os_error", None), Guarded)
