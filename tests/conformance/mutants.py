"""VTNs that are wrong on purpose. Each names the tests that must fail before it."""

import json
import re
from uuid import uuid4

from tests.conformance.proxy import Exchange, Mutant, Spoil


def to_status(old: int, new: int) -> Spoil:
    def spoil(seen: Exchange) -> None:
        if seen.status == old:
            seen.status = new
            if new < 400:
                seen.text = seen.body.decode()
            else:
                seen.text = json.dumps({**json.loads(seen.text), "status": new})

    return spoil


def accepts_too_much(seen: Exchange) -> None:
    if int_of(seen.query.get("limit")) > 50:
        seen.query["limit"] = "50"


def int_of(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def without_query(*names: str) -> Spoil:
    def spoil(seen: Exchange) -> None:
        for name in names:
            seen.query.popall(name, None)

    return spoil


def without_header(name: str) -> Spoil:
    def spoil(seen: Exchange) -> None:
        seen.headers.popall(name, None)

    return spoil


def as_text(seen: Exchange) -> None:
    if seen.status >= 400:
        seen.headers["Content-Type"] = "text/plain"
        seen.text = f"{seen.status}: sorry"


def as_bl(seen: Exchange) -> None:
    """Read programs and events for VENs with BL's eyes."""
    by_a_ven = seen.by(seen.vtn.ven1) or seen.by(seen.vtn.ven2)
    if by_a_ven and seen.method == "GET" and seen.kind in {"programs", "events"}:
        seen.sent["Authorization"] = f"Bearer {seen.vtn.bl}"


def as_ven1(seen: Exchange) -> None:
    """Let VEN 2 read and write what is VEN 1's, as if it were VEN 1."""
    if seen.by(seen.vtn.ven2) and seen.kind in {"reports", "subscriptions", "resources", "vens"}:
        seen.sent["Authorization"] = f"Bearer {seen.vtn.ven1}"


def with_foreign_target(seen: Exchange) -> None:
    if not seen.by(seen.vtn.bl):
        seen.change(lambda o: o.get("targets") and o["targets"].append("foreign"))


def rounded(seen: Exchange) -> None:
    seen.text = (
        re.sub(r"\b(\d+\.\d\d)\d+\b(?!Z)", r"\1", seen.text) if "values" in seen.text else seen.text
    )


def with_long_forever(seen: Exchange) -> None:
    seen.text = seen.text.replace('"P9999Y"', '"P9999Y0M0DT0H0M0S"')


def renamed_kind(seen: Exchange) -> None:
    seen.change(lambda o: "objectType" in o and o.update(objectType="event"))


def without(*names: str) -> Spoil:
    def spoil(seen: Exchange) -> None:
        seen.change(lambda o: [o.pop(name, None) for name in names])

    return spoil


def with_nulls(seen: Exchange) -> None:
    seen.change(lambda o: o.setdefault("attributes", None))


def random_etag(seen: Exchange) -> None:
    seen.headers["ETag"] = f'"{uuid4().hex}"'
    seen.sent.popall("If-None-Match", None)


def with_the_token(seen: Exchange) -> None:
    """Show everybody the bearer token of a subscription."""
    if seen.kind == "subscriptions":
        seen.change(lambda o: [w.update(bearerToken="test-token") for w in o["objectOperations"]])


class Stale:
    """Answers an update with what was there before it."""

    def __init__(self) -> None:
        self.old: dict[str, str] = {}

    def __call__(self, seen: Exchange) -> None:
        if seen.status in {200, 201} and seen.kind in {"programs", "events"}:
            if seen.method == "POST":
                path = f"{seen.path}/{json.loads(seen.text)['id']}"
                self.old[path] = seen.text
            seen.text = self.old.get(seen.path, seen.text)


def keeps_targets_from_vens(seen: Exchange) -> None:
    """Let a VEN write targets: its own words reach the VTN as if BL had said them."""
    if seen.method == "PUT" and seen.kind == "vens" and not seen.by(seen.vtn.bl):
        body = json.loads(seen.body)
        said = {"objectType": "BL_VEN_REQUEST", "clientID": seen.vtn.ven1_id}
        seen.body = json.dumps({**body, **said}).encode()
        seen.sent["Authorization"] = f"Bearer {seen.vtn.bl}"


def any_body(seen: Exchange) -> None:
    """Take any body for a program."""
    if seen.method == "POST" and seen.kind == "programs":
        seen.body = json.dumps({"programName": f"kit-mutant-{uuid4().hex}"}).encode()
        seen.sent["Content-Type"] = "application/json"


def any_client(seen: Exchange) -> None:
    if not seen.by(seen.vtn.ven1) and not seen.by(seen.vtn.ven2) and "auth" not in seen.path:
        seen.sent["Authorization"] = f"Bearer {seen.vtn.bl}"


def cached_token(seen: Exchange) -> None:
    seen.headers.popall("Cache-Control", None)
    if seen.path == "/auth/token":
        seen.text = seen.text.replace("invalid_client", "invalid_request")


def all_topics_to_vens(seen: Exchange) -> None:
    if seen.path.startswith("/notifiers/mqtt/topics") and "Authorization" in seen.sent:
        seen.sent["Authorization"] = f"Bearer {seen.vtn.bl}"


def with_targets_added(text: str) -> str:
    said = json.loads(text)
    said["object"].setdefault("targets", []).append("foreign")
    return json.dumps(said)


def _pop(seen: Exchange, name: str) -> None:
    body = json.loads(seen.text)
    body.pop(name, None)
    seen.text = json.dumps(body)


PLAIN = Mutant("nothing is wrong", [])
MUTANTS = [
    Mutant("duplicates are made", [
        "test_programs.py::test_a_program_name_is_unique",
        "test_vens.py::test_a_ven_registers_once",
        "test_resources.py::test_a_resource_name_is_unique_within_its_ven",
    ], answer=to_status(409, 201)),
    Mutant("limit has no end", [
        "test_paging.py::test_a_page_that_cannot_be_is_refused[limit=51-events]",
    ], ask=accepts_too_much),
    Mutant("skip and limit are ignored", [
        "test_paging.py::test_a_list_comes_in_pages[P23-programs]",
        "test_paging.py::test_a_list_comes_in_pages[E23-events]",
    ], ask=without_query("skip", "limit")),
    Mutant("active is ignored", [
        "test_active.py::test_a_transpired_event_is_not_active[cancelled]",
        "test_active.py::test_pages_are_of_what_is_active",
    ], ask=without_query("active")),
    Mutant("filters are ignored", [
        "test_reports.py::test_reports_are_listed_by_the_program_of_their_event",
        "test_events.py::test_events_are_listed_by_program",
        "test_vens.py::test_a_ven_is_found_by_its_name",
        "test_privacy.py::test_bl_lists_what_has_a_target[programs]",
    ], ask=without_query("programID", "venName", "targets")),
    Mutant("objectType is wrong", [
        "test_bodies.py::test_the_vtn_stamps_what_it_makes[programs]",
        "test_bodies.py::test_a_client_does_not_stamp[events]",
    ], answer=renamed_kind),
    Mutant("moments are not stamped", [
        "test_bodies.py::test_the_vtn_stamps_what_it_makes[reports]",
        "test_bodies.py::test_an_update_keeps_the_id_and_the_moment_of_making[programs]",
    ], answer=without("createdDateTime")),
    Mutant("nulls are sent", [
        "test_bodies.py::test_null_means_absent[events]",
    ], answer=with_nulls),
    Mutant("VENs read as BL", [
        "test_privacy.py::test_what_is_targeted_is_for_those_who_are_granted_it[events]",
        "test_privacy.py::test_what_is_hidden_looks_like_what_is_unknown[programs]",
        "test_privacy.py::test_a_ven_sees_no_targets_but_its_own[programs]",
    ], ask=as_bl),
    Mutant("VENs share what they own", [
        "test_ownership.py::test_another_ven_does_not_find_it[reports]",
        "test_ownership.py::test_another_ven_does_not_list_it[vens]",
        "test_ownership.py::test_another_ven_does_not_change_it[resources]",
    ], ask=as_ven1),
    Mutant("foreign targets are shown", [
        "test_privacy.py::test_a_ven_sees_no_targets_but_its_own[events]",
        "test_privacy.py::test_the_targets_of_its_resources_are_granted_to_a_ven[events]",
    ], answer=with_foreign_target),
    Mutant("VENs write their targets", [
        "test_ownership.py::test_a_vens_update_leaves_the_targets_of_its_ven[sent1]",
    ], ask=keeps_targets_from_vens),
    Mutant("decimals are rounded", [
        "test_verbatim.py::test_a_number_stays_what_it_was[0.125]",
    ], answer=rounded),
    Mutant("for ever is spelled out", [
        "test_verbatim.py::test_a_duration_stays_as_it_was_written[P9999Y]",
        "test_verbatim.py::test_now_stays_now[0001-01-01]",
    ], answer=with_long_forever),
    Mutant("forbidden is not found", [
        "test_programs.py::test_a_ven_creates_no_program",
        "test_events.py::test_a_ven_deletes_no_event",
        "test_reports.py::test_bl_creates_no_report",
    ], answer=to_status(403, 404)),
    Mutant("unknown is forbidden", [
        "test_unknown.py::test_an_unknown_object_is_not_found[P20-GET-programs]",
        "test_unknown.py::test_an_unknown_path_is_not_found[/cats]",
    ], answer=to_status(404, 403)),
    Mutant("401 does not challenge", [
        "test_access.py::test_no_token_is_refused_with_a_challenge[P16-GET-programs]",
    ], answer=without_header("WWW-Authenticate")),
    Mutant("anybody comes in", [
        "test_access.py::test_a_bad_token_is_refused[V14-GET-vens]",
        "test_access.py::test_no_token_is_refused_with_a_challenge[E14-GET-events]",
        "test_access.py::test_other_authorization_is_refused[bogus]",
    ], ask=any_client),
    Mutant("405 does not say what is allowed", [
        "test_http.py::test_a_method_that_is_not_served_is_refused[PATCH-/programs]",
    ], answer=without_header("Allow")),
    Mutant("errors are text", [
        "test_unknown.py::test_an_unknown_path_is_not_found[/cats]",
        "test_programs.py::test_a_program_name_is_unique",
    ], answer=as_text),
    Mutant("errors say little", [
        "test_unknown.py::test_an_unknown_object_is_not_found[E18-GET-events]",
    ], answer=lambda seen: seen.status >= 400 and _pop(seen, "instance")),
    Mutant("any body will do", [
        "test_bodies.py::test_what_is_required_must_be_there[programs-programName]",
        "test_http.py::test_a_body_that_is_not_json_is_refused[{-programs]",
        "test_http.py::test_a_body_of_another_media_type_is_refused[text/plain]",
    ], ask=any_body),
    Mutant("updates show what was", [
        "test_programs.py::test_bl_gives_a_program_targets",
        "test_events.py::test_bl_updates_an_event",
    ], answer=Stale()),
    Mutant("ETags are random", [
        "test_http.py::test_what_has_not_changed_is_not_sent_again",
    ], ask=lambda seen: seen.sent.popall("If-None-Match", None), answer=random_etag),
    Mutant("bearer tokens are shown", [
        "test_subscriptions.py::test_a_bearer_token_is_shown_to_no_other_client",
    ], answer=with_the_token),
    Mutant("tokens are cached, refusals unclear", [
        "test_token.py::test_a_token_is_not_kept_by_caches",
        "test_token.py::test_wrong_credentials_are_refused[wrong0]",
    ], answer=cached_token),
    Mutant("VENs learn BL's topics", [
        "test_notifiers.py::test_vens_are_not_told_the_topics_of_bl[events]",
        "test_notifiers.py::test_vens_are_not_told_the_topics_of_each_other[vens/{ven}/events]",
    ], ask=all_topics_to_vens),
    Mutant("notifications are encoded twice", [
        "test_webhooks.py::test_a_body_is_one_json_object",
        "test_webhooks.py::test_a_ven_is_told_of_a_new_event",
    ], callback=json.dumps),
    Mutant("notifications show foreign targets", [
        "test_webhook_privacy.py::test_a_notification_hides_foreign_targets",
    ], callback=with_targets_added),
    Mutant("notifications tell of a POST", [
        "test_webhooks.py::test_a_ven_is_told_once",
    ], callback=lambda text: text.replace('"CREATE"', '"POST"')),
    Mutant("notifications are swallowed", [
        "test_webhooks.py::test_a_deletion_is_told",
    ], callback=lambda text: None if '"DELETE"' in text else text),
]  # fmt: skip
