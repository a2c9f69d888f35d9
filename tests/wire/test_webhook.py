"""Signatures, checked by the independent `standardwebhooks` package."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from bridge.wire import webhook

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_a_signed_body_is_verified_by_others(data):
    import json

    body = json.dumps(data).encode()
    headers = webhook.headers("id-1", datetime.now(UTC), body, webhook.read_secret(SECRET))
    assert Webhook(SECRET).verify(body, headers) == data


def test_without_a_secret_nothing_is_signed():
    assert "webhook-signature" not in webhook.headers("i", datetime.now(UTC), b"", None)


@pytest.mark.parametrize("text", ["", "hunter2", "whsec_", "whsec_!!!!", "whsec_c2hvcnQ="])
def test_what_is_no_secret_is_refused(text):
    with pytest.raises(ValueError, match="a webhook secret"):
        webhook.read_secret(text)
