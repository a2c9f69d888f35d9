"""A utility's OpenADR 2.0b VTN, followed as a VEN that polls.

Messages and registration are openleadr's; the loop, the waiting and the clock are ours.
An event is answered only after it is kept.
"""

import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal, Self

import structlog
from pydantic import Field, HttpUrl, field_validator, model_validator

from bridge import certificates
from bridge.errors import SettingsError, SourceError, Unregistered, WireError
from bridge.interfaces import Batch, Surroundings
from bridge.model import Answer, Dispatch, OptPolicy, OptType, Registration
from bridge.notation import Duration, Frozen
from bridge.sources.reporting import Report, Reporting
from bridge.sources.ven import Ven
from bridge.wire.openadr2 import Listing, read_listing
from bridge.wire.openleadr import Message
from bridge.wire.signatures import Signer

log = structlog.get_logger()

SHORTEST_POLL, LONGEST_POLL = timedelta(seconds=1), timedelta(hours=24)
MESSAGES_AT_ONCE = 20  # a VTN that never stops talking is let wait for the next poll


class Program(Frozen):
    """What a person settles about a market context."""

    name: str = Field(min_length=1, max_length=128)


class OpenADR2(Frozen):
    """A VTN and how it is followed."""

    kind: Literal["openadr2"]
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    vtn_url: HttpUrl
    ven_name: str = Field(min_length=1, max_length=128)
    ven_id: str | None = None
    cert: Path | None = None
    key: Path | None = None
    key_passphrase_file: Path | None = None
    ca: Path | None = None
    check_hostname: bool = True
    proxy: HttpUrl | None = None
    legacy_ciphers: bool = False
    vtn_fingerprint: str | None = None
    sign: bool = False
    opt: Literal["always", "never", "manual"] = "always"
    opt_deadline: Duration = timedelta(minutes=10)
    opt_default: OptType = "optIn"
    pass_opts: bool = False
    max_open_ended: Duration = timedelta(hours=24)
    programs: Mapping[str, Program] = {}
    reports: tuple[Report, ...] = ()

    @field_validator("vtn_fingerprint")
    @classmethod
    def _a_fingerprint(cls, value: str | None) -> str | None:
        digits = (value or "").replace(":", "").upper()
        if value and (len(digits) not in {20, 64} or set(digits) - set("0123456789ABCDEF")):
            raise ValueError(
                "write OpenADR's 10 bytes, or the whole SHA-256, as hex: AA:BB:… "
                "(see `openadr-bridge certs fingerprint`)"
            )
        return value

    @field_validator("reports")
    @classmethod
    def _once_each(cls, value: tuple[Report, ...]) -> tuple[Report, ...]:
        names = [(report.kind, report.resource) for report in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the {twice[0][0]} of {twice[0][1]!r} stands there twice")
        return value

    @model_validator(mode="after")
    def _certificates_fit(self) -> Self:
        given = {k for k in ("cert", "key", "ca") if getattr(self, k)}
        if self.vtn_url.scheme == "https" and given != {"cert", "key", "ca"}:
            missing = ", ".join(sorted({"cert", "key", "ca"} - given))
            raise ValueError(f"an https VTN needs cert, key and ca; missing: {missing}")
        if self.vtn_url.scheme == "http" and (given or self.sign or self.vtn_fingerprint):
            raise ValueError("vtn_url is http:// but a certificate is given; write https://")
        return self

    @property
    def opt_policy(self) -> OptPolicy:
        """How its events are answered."""
        return OptPolicy(self.opt, self.opt_deadline, self.opt_default)

    @property
    def program_names(self) -> Mapping[str, str]:
        """Names of programs by market context, as settled by a person."""
        return {context: program.name for context, program in self.programs.items()}

    def passphrase(self) -> str | None:
        """Return the key's passphrase from its file."""
        if self.key_passphrase_file is None:
            return None
        try:
            return self.key_passphrase_file.read_text().strip()
        except OSError as error:
            raise SettingsError(
                f"{self.key_passphrase_file}: cannot be read ({error.strerror})"
            ) from error

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context of an https VTN."""
        if not (self.cert and self.key and self.ca):
            return None
        return certificates.client_context(
            self.ca,
            self.cert,
            self.key,
            passphrase=self.passphrase(),
            check_hostname=self.check_hostname,
            legacy_ciphers=self.legacy_ciphers,
        )

    def check_files(self) -> None:
        """Look at all files; an expired certificate is no mistake in the settings."""
        for path in (self.cert, self.key, self.ca):
            if path and not path.is_file():
                raise SettingsError(f"{path}: is not there")
        if self.cert and self.key:
            certificates.check_match(self.cert, self.key, self.passphrase())
            self.tls()

    def _ven(self, context: ssl.SSLContext | None, known: Registration | None) -> Ven:
        signer = None
        if self.sign and self.cert and self.key:
            key = certificates.read_key(self.key, self.passphrase())
            signer = Signer(self.cert.read_bytes(), key)
        return Ven(
            name=self.ven_name,
            url=str(self.vtn_url),
            context=context,
            signer=signer,
            fingerprint=self.vtn_fingerprint,
            proxy=str(self.proxy) if self.proxy else None,
            ven_id=self.ven_id,
            known=known,
        )

    async def batches(self, around: Surroundings) -> AsyncGenerator[Batch, None]:
        """Yield events as they come; raise SourceError when the VTN fails."""
        known = await around.memory.registration(self.name)
        try:
            if self.cert:
                certificates.check_validity(self.cert)
            ven = self._ven(self.tls(), known)
        except SettingsError as error:  # a certificate may be renewed while we run
            raise SourceError(str(error)) from error
        async with ven:
            following = _Following(self.name, ven, around, known, self.reports)
            async with aclosing(following.batches()) as batches:
                async for batch in batches:
                    yield batch


class _Following:
    """One connection's conversation with a VTN."""

    def __init__(
        self, name: str, ven: Ven, around: Surroundings, known: Registration | None,
        reports: Sequence[Report],
    ) -> None:  # fmt: skip
        self._name, self._ven, self._around, self._known = name, ven, around, known
        self._bell = around.memory.bell(f"source {name}")
        self._unreadable: Sequence[str] = ()
        self._reporting = (
            Reporting(name, reports, ven, around.reports, around.clock) if around.reports else None
        )

    @property
    def _reports(self) -> Reporting | None:
        """Return the conversation about reports, where there is any."""
        return self._reporting if self._reporting and self._reporting.active else None

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Follow the VTN; one that was away is told once more what can be reported."""
        if self._reporting:
            await self._reporting.begin()
        try:
            async with aclosing(self._conversation()) as batches:
                async for batch in batches:
                    yield batch
        except SourceError:
            if self._reports:
                await self._reports.tell_anew()
            raise

    async def _conversation(self) -> AsyncGenerator[Batch, None]:
        """Register where needed, ask for all events, then poll for ever."""
        if self._known is None:
            await self._register()
        message = await self._first_request()
        while True:
            for _ in range(MESSAGES_AT_ONCE):
                if message.type == "oadrDistributeEvent":
                    async with aclosing(self._listed(message)) as batches:
                        async for batch in batches:
                            yield batch
                elif message.type == "oadrResponse":
                    break
                else:
                    message = await self._other(message)
                    continue
                message = await self._ven.ask_poll()  # there may be more
            await self._tell_opts()
            await self._heard()
            await self._report()
            await self._wait_for_poll()
            if message.type == "oadrResponse":  # else one is left to be looked at
                message = await self._ven.ask_poll()

    async def _first_request(self) -> Message:
        """Ask for all events; register again when the VTN does not know us any more."""
        try:
            message = await self._ven.ask_events()
        except Unregistered:
            await self._register()
            return await self._ven.ask_events()
        if message.type == "oadrRequestReregistration":
            await self._register()
            return await self._ven.ask_events()
        return message

    async def _register(self) -> None:
        """Register, saying which venID and registrationID we had."""
        reporting = self._reports is not None
        if self._reports:
            await self._reports.tell_anew()
        try:
            given = await self._ven.register(reporting=reporting)
        except Unregistered:
            if self._known is None:
                raise
            # The VTN has forgotten those ids: register as for the first time.
            self._ven.forget()
            given = await self._ven.register(reporting=reporting)
        self._known = Registration(
            given.ven_id, given.registration_id, given.vtn_id,
            min(max(given.poll, SHORTEST_POLL), LONGEST_POLL),
        )  # fmt: skip
        await self._around.memory.save_registration(self._name, self._known)
        await self._report()

    async def _other(self, message: Message) -> Message:
        """Do what else a VTN asks for; return the next message."""
        if message.type == "oadrRequestReregistration":
            await self._ven.say_ok("EiRegisterParty")
            await self._register()
            return await self._ven.ask_events()
        if message.type == "oadrCancelPartyRegistration":
            await self._ven.say_cancelled(message)
            await self._around.memory.save_registration(self._name, None)
            if self._reports:
                await self._reports.forget()
            raise SourceError("the VTN cancelled the registration; registering again later")
        if not (self._reports and await self._reports.answer(message)):
            await self._ven.decline(message)
        return await self._ven.ask_poll()

    async def _listed(self, message: Message) -> AsyncGenerator[Batch, None]:
        """Yield what is listed; and what is confirmed to be no longer listed, as cancelled."""
        listing = self._read(message)
        yield self._batch(listing, complete=False)
        if await self._missing(listing):
            again = await self._ven.ask_events()
            if again.type == "oadrDistributeEvent":
                listing = self._read(again)
                # One that cannot be read may be any of those that seem to be missing.
                yield self._batch(listing, complete=not listing.unreadable)

    def _read(self, message: Message) -> Listing:
        try:
            listing = read_listing(message.element, self._ven.ven_id)
        except WireError as error:
            raise SourceError(str(error)) from error
        self._unreadable = listing.unreadable
        self._warn()
        return listing

    def _warn(self) -> None:
        """Say what is not well, with events and with reports."""
        said = [*self._unreadable, *(self._reports.says() if self._reports else ())]
        self._around.warn("; ".join(said) or None)

    async def _missing(self, listing: Listing) -> bool:
        ids = {d.origin.foreign_id for d in listing.dispatches}
        return bool(await self._around.memory.missing(self._name, ids, self._now()))

    def _batch(self, listing: Listing, *, complete: bool) -> Batch:
        accepted = partial(self._answer, listing.request_id, listing.dispatches)
        return Batch(listing.dispatches, listing.request_id, complete, accepted)

    async def _answer(self, request_id: str, dispatches: tuple[Dispatch, ...]) -> None:
        """Answer what was listed with the opts as they are kept."""
        listed = {
            d.origin.foreign_id: d.origin.modification
            for d in dispatches
            if d.origin.response_required and d.origin.status != "completed"
        }
        answers = await self._around.memory.answers(self._name, self._now(), listed)
        await self._tell(request_id, answers)

    async def _tell_opts(self) -> None:
        """Tell opts that were settled later, or that a restart kept from being told."""
        by_request: dict[str, list[Answer]] = {}
        for answer in await self._around.memory.answers(self._name, self._now()):
            by_request.setdefault(answer.request_id, []).append(answer)
        for request_id, answers in by_request.items():
            await self._tell(request_id, answers)
        await self._tell_parts()

    async def _tell_parts(self) -> None:
        """Tell the opts of some of an event's resources: of devices that are VENs here."""
        for part in await self._around.memory.part_opts(self._name, self._now()):
            against = await self._ven.tell_part(part, self._now())
            if against:
                log.warning("the VTN did not take an EiOpt", source=self._name, said=against)
            await self._around.memory.part_opts_told(self._name, [part])

    async def _tell(self, request_id: str, answers: list[Answer]) -> None:
        if answers:
            against = await self._ven.tell_opts(request_id, answers)
            if against:
                log.warning("the VTN did not take an opt", source=self._name, said=against)
            await self._around.memory.answered(self._name, answers)

    async def _wait_for_poll(self) -> None:
        """Wait for the next poll, telling opts as they are settled meanwhile, and reports."""
        poll = self._known.poll if self._known else SHORTEST_POLL
        due = self._now() + poll
        while due - poll <= self._now() < due:  # or else the clock was set back
            until = self._reports.due(due) if self._reports else due
            if await self._around.clock.wait(self._bell, until):
                await self._tell_opts()
            if until <= self._now() < due:
                await self._report()

    async def _report(self) -> None:
        """Do what is due of reports."""
        if self._reports:
            await self._reports.step()
            self._warn()

    async def _heard(self) -> None:
        now = self._now()
        self._around.succeeded(now)
        await self._around.memory.heard_from(self._name, now)

    def _now(self) -> datetime:
        return self._around.clock.now()
