"""What is mended in openleadr, each by the defect it is for."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from bridge.errors import BridgeError, WireError
from bridge.wire import openleadr
from tests.peers import RawVtn, distribute, event, levels, response

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)


def test_another_version_is_refused_with_a_clear_message(monkeypatch):
    monkeypatch.setattr(openleadr, "version", lambda _: "0.5.37")
    with pytest.raises(
        BridgeError, match=r"openleadr 0\.5\.37 is installed.*install openleadr==0\.5\.36"
    ):
        openleadr.harden.__wrapped__()


def test_an_internal_entity_does_not_end_the_process():
    # Stock openleadr dies of this by SIGSEGV; a process of its own shows that ours does not.
    script = (
        "from bridge.wire.openleadr import harden\nfrom openleadr import messaging\nharden()\n"
        "try: messaging.validate_xml_schema('<!DOCTYPE l [<!ENTITY a \"x\">]><l>&a;</l>')\n"
        "except Exception as error: print(type(error).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "XMLSyntaxError"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused(encoding):
    text = response().replace("?>", '?><!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">', 1)
    text = text.replace("UTF-8", encoding)
    with pytest.raises(WireError, match="document type"):
        openleadr.read_message(text.encode(encoding))


@pytest.mark.parametrize("content", [b"", b"<", b"<a/>", b"\xff\xfe\x00", b"\0" * 100, b"<!DOCTYP"])
def test_what_is_no_message_is_refused(content):
    with pytest.raises(WireError, match="not valid OpenADR"):
        openleadr.read_message(content)


def test_text_is_escaped_in_what_is_written():
    text = openleadr.message_writer()(
        "oadrCreatePartyRegistration", request_id="1", ven_id=None, ven_name="A & <B>", http_pull_model=True,
        xml_signature=False, report_only=False, profile_name="2.0b", transport_name="simpleHttp",
        transport_address=None,
    )  # fmt: skip
    assert openleadr.read_message(text).payload["ven_name"] == "A & <B>"


def test_identifiers_stay_text():
    text = openleadr.message_writer()(
        "oadrCreatedEvent", ven_id="1.2.3", response={"response_code": 200, "response_description": "1", "request_id": "7"},
        event_responses=[{"response_code": 200, "response_description": "OK", "request_id": "007",
                          "event_id": "10.0.0.1", "modification_number": 3, "opt_type": "optIn"}],
    )  # fmt: skip
    payload = openleadr.read_message(text).payload
    assert payload["ven_id"] == "1.2.3"
    answers = payload["event_responses"]
    answer = answers[0] if isinstance(answers, list) else answers
    assert (answer["event_id"], answer["request_id"], answer["modification_number"]) == (
        "10.0.0.1",
        "007",
        3,
    )


def test_a_client_needs_no_time_zone_by_name(monkeypatch):
    openleadr.harden()
    monkeypatch.setenv("TZ", "EST5EDT,M3.2.0,M11.1.0")
    from bridge.sources.ven import Ven

    assert Ven(name="v", url="http://localhost/x", context=None).ven_name == "v"


def test_events_are_left_to_the_exact_reader():
    message = openleadr.read_message(distribute(event("E", NOON, levels([1]))).encode())
    assert message.type == "oadrDistributeEvent"
    assert set(message.payload) == {"response"}


async def test_stock_polling_and_event_handling_are_not_used():
    # Its poll loop gives up silently (V1, V2), opts out of everything on one mistake (V4),
    # and answers 452 or 460 for harmless things (V7, V8): none of it runs.
    from bridge.sources.ven import Ven

    vtn = RawVtn()
    vtn.list(event("E", NOON, levels([1])))
    await vtn.start()
    async with Ven(name="v", url=vtn.url, context=None) as ven:
        await ven.register()
        await ven.ask_events()
    await vtn.stop()
    assert not ven.scheduler.running
    assert ven.received_events == []
    assert vtn.opts == []
