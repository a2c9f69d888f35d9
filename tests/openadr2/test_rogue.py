"""Who is not enrolled, who acts in another's name, and whose signature is bad, changes nothing."""

import pytest

from tests.openadr2 import raw_messages as messages
from tests.openadr2.mutations import Ids, fixtures
from tests.openadr2.raw_faults import FAULTS, good, wrapped
from tests.openadr2.raw_messages import usage_offer
from tests.openadr2.raw_reading import Answer
from tests.openadr2.raw_signatures import EXCLUSIVE
from tests.openadr2.raw_site import served
from tests.openadr2.test_raw_ven import PRICED, asked_for, day, hour, told


async def one_that_has(site, name):
    """Return a VEN with a registration, reports, an event it was told of, and an opt; and its ids."""
    ven = await site.registered(name)
    async with site.bl() as bl:
        program = (await bl.made("/programs", {**PRICED, "programName": f"of-{name}"}))["id"]
        event = await bl.made("/events", day(program, hour(3), [0.1, 0.2]))
    await told(ven)
    (wanted,) = await asked_for(ven, usage_offer())
    assert (await ven.usage(wanted.id, hour(-1), {"energy": 1.5})).good
    assert (await ven.create_opt("opt-1", available=[(hour(5), "PT1H")])).good
    return ven, Ids(ven.ven_id, ven.registration_id, wanted.id, event["id"], 0, "opt-1")


def opted(ven, opt_id):
    """Return the body of an opt for an hour."""
    return messages.create_opt(ven.ven_id, opt_id, available=[(hour(5), "PT1H")])


def without_ven_id(ids):
    """Return the messages that may leave out whose they are."""
    at = [(hour(-2), "PT1M", {"energy": 99})]
    return {
        "cancel": messages.cancel_party_registration(ids.registration),
        "canceled": messages.canceled_party_registration(ids.registration, None),
        "register": messages.create_party_registration(registration_id=ids.registration),
        "register anew": messages.create_party_registration(name="somebody"),
        "register_report": messages.register_report(None, [usage_offer("theirs")]),
        "created_report": messages.created_report(None, []),
        "canceled_report": messages.canceled_report(None, []),
        "update": messages.update_report(
            None, [messages.report(ids.request, "usage", "TELEMETRY_USAGE", at)]
        ),
        "response": messages.response(None),
    }


async def test_a_certificate_that_is_not_enrolled_does_nothing(tmp_path):
    async with served(tmp_path) as site:
        _, ids = await one_that_has(site, "victim")
        had = site.dump()
        everything = fixtures(ids) | {f"{k}!": v for k, v in without_ven_id(ids).items()}
        everything["cancel theirs"] = messages.cancel_party_registration(ids.registration, ids.ven)
        everything["cancel their opt"] = messages.cancel_opt(ids.ven, ids.opt)
        for n, (name, body) in enumerate(everything.items()):
            # Another one each time: who is refused often is not heard for a while.
            stranger = site.ven(site.authority.issue(f"stranger{n}"))
            answer = await stranger.send(body)
            assert answer.refuses(463), (name, answer)
        assert site.dump() == had


async def test_an_enrolled_ven_does_nothing_in_anothers_name(tmp_path):
    async with served(tmp_path) as site:
        victim, ids = await one_that_has(site, "victim")
        thief, _ = await one_that_has(site, "thief")
        had = site.dump("thief")
        theirs = fixtures(ids) | {
            "cancel theirs": messages.cancel_party_registration(ids.registration, ids.ven),
            "cancel their opt": messages.cancel_opt(ids.ven, ids.opt),
        }
        for name, body in theirs.items():
            if ids.ven not in body:
                continue
            answer = await thief.send(body)
            assert answer.refuses(463), (name, answer)
        for name, body in without_ven_id(ids).items():
            answer = await thief.send(body)
            assert answer.status == 200, name
            if name in {"cancel", "register"}:
                assert answer.code in {452, 463}, name
        own = thief.ven_id
        for body in (
            messages.cancel_party_registration(ids.registration, own),
            messages.create_party_registration(ven_id=own, registration_id=ids.registration),
        ):
            assert (await thief.send(body)).code == 452
        assert site.dump("thief") == had
        kept = [r for r in site.readings() if r["client"] == "openadr2:victim"]
        assert len(kept) == 1
        assert (await victim.query()).text("e:registrationID") == ids.registration
        assert (await thief.query()).text("e:registrationID") == thief.registration_id


@pytest.fixture
async def strict(tmp_path):
    async with served(tmp_path, ("rsa", "ec"), require_signatures=True) as site:
        yield site


async def refused(site, ven, content, service, name):
    """Send what is to be refused, and see that it was."""
    had = site.dump()
    async with ven.http.post(
        f"{ven.url}/{service}", data=content, headers={"Content-Type": "application/xml"}
    ) as reply:
        answer = Answer.read(reply.status, await reply.read(), reply.content_type)
    assert answer.status == 400 or answer.refuses(463), (name, answer)
    assert site.dump() == had, name


@pytest.mark.parametrize("kind", ["rsa", "ec"])
async def test_a_bad_signature_is_refused(strict, kind):
    mine, other = [await strict.registered(name, kind) for name in ("mine", "other")]
    for name, make in FAULTS.items():
        *before, last = make(mine, other, opted(mine, f"opt-{name}"))
        for content in before:
            assert (await mine.post(content, "EiOpt")).good, name
        await refused(strict, mine, last, "EiOpt", name)
    made = {row["opt_id"] for row in strict.query("SELECT opt_id FROM ven_opts")}
    assert all(
        f"opt-{name}" not in made or name.startswith(("replayed", "used")) for name in FAULTS
    )
    assert (await mine.poll()).good


@pytest.mark.parametrize("kind", ["rsa", "ec"])
async def test_no_message_is_put_in_a_signed_ones_place(strict, kind):
    mine = await strict.registered("mine", kind)
    harmless = opted(mine, "harmless")
    evil = opted(mine, "evil")
    for name, content in wrapped(mine, harmless, evil).items():
        await refused(strict, mine, content, "EiOpt", name)
    assert not strict.query("SELECT * FROM ven_opts")


@pytest.mark.parametrize("kind", ["rsa", "ec"])
async def test_each_good_way_to_sign_is_taken(strict, kind):
    mine = await strict.registered("mine", kind)
    for otherwise in (
        {},
        {"covers": ("#guard", "#oadrSignedObject")},
        {"covers": ("#oadrSignedObject", "#guards")},
        {"method": EXCLUSIVE},
    ):
        body = opted(mine, messages.fresh("opt"))
        answer = await mine.post(good(mine, body, **otherwise), "EiOpt")
        assert (answer.kind, answer.code) == ("oadrCreatedOpt", 200), otherwise
        mine.check(answer.content)


async def test_signatures_are_asked_of_those_who_promised_them(tmp_path):
    async with served(tmp_path, require_signatures="per-ven") as site:
        signing = await site.registered("signing", "ec", signs=True)
        plain = await site.registered("plain")
        assert (await plain.poll()).good
        assert (await signing.poll()).signed
        content = messages.wrap(messages.poll(signing.ven_id)).encode()
        answer = await signing.post(content, "OadrPoll")
        assert answer.refuses(463), answer
