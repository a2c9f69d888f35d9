"""Standard Webhooks 1.0: the headers of a signed POST."""

import base64
import hashlib
import hmac
from datetime import datetime

PREFIX = "whsec_"
SHORTEST = 24  # bytes, by the specification's section "Secrets"


def read_secret(text: str) -> bytes:
    """Return a secret's bytes; raise ValueError when it is not one."""
    text = text.strip()
    if not text.startswith(PREFIX):
        raise ValueError(f"a webhook secret begins with {PREFIX}")
    try:
        key = base64.b64decode(text[len(PREFIX) :], validate=True)
    except ValueError as error:
        raise ValueError(f"a webhook secret is base64 after {PREFIX}") from error
    if len(key) < SHORTEST:
        raise ValueError(f"a webhook secret is at least {SHORTEST} bytes, before base64")
    return key


def headers(delivery_id: str, at: datetime, body: bytes, secret: bytes | None) -> dict[str, str]:
    """Return the headers of an attempt: the same id each time, the time of this attempt."""
    stamp = str(int(at.timestamp()))
    found = {"webhook-id": delivery_id, "webhook-timestamp": stamp}
    if secret:
        signed = b".".join((delivery_id.encode(), stamp.encode(), body))
        digest = hmac.new(secret, signed, hashlib.sha256).digest()
        found["webhook-signature"] = "v1," + base64.b64encode(digest).decode()
    return found
