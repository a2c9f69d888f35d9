"""Source to store: everything a source says is kept before it is answered."""

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

from bridge import adders
from bridge.adders import Adder
from bridge.clock import Clock
from bridge.interfaces import Batch, PriceHistory, SignalStore, Source, SourceMemory, Surroundings
from bridge.model import Price, PriceQuestion, Publication
from bridge.reporting import ReportMemory
from bridge.supervise import Job

AT_ONCE = 5_000  # prices that are derived in one transaction
EVER = datetime(1900, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


async def ingest(
    source: Source,
    store: SignalStore,
    memory: SourceMemory,
    history: PriceHistory,
    clock: Clock,
    job: Job,
    added: Sequence[Adder] = (),
    reports: ReportMemory | None = None,
) -> None:
    """Keep what a source says, and what local adders make of it; tell it so after the commit."""
    around = Surroundings(memory, clock, job.succeeded, job.warn, reports)
    await derive_history(source, store, memory, history, clock, added)
    async with aclosing(source.batches(around)) as batches:
        async for batch in batches:
            whole = await asyncio.to_thread(with_derived, batch, added) if added else batch
            await store.save(source, whole, clock.now())
            await batch.accepted()


def with_derived(batch: Batch, added: Sequence[Adder]) -> Batch:
    """Return a batch with what adders make of its prices."""
    derived = [
        adders.derive(publication, adder)
        for publication in batch.publications
        for adder in added
        if adders.concerns(publication.tariff, adder)
    ]
    return replace(batch, publications=[*batch.publications, *derived]) if derived else batch


async def derive_history(
    source: Source,
    store: SignalStore,
    memory: SourceMemory,
    history: PriceHistory,
    clock: Clock,
    added: Sequence[Adder],
) -> None:
    """Derive, once for each wording of an adder, from what is known of a source's programs.

    An adder that is there no more is forgotten: should it come back, a part was missed.
    """
    words = {
        f"adder {a.name}": hashlib.sha256(a.model_dump_json().encode()).hexdigest() for a in added
    }
    marks = await memory.marks(source.name)
    gone = [
        name for name in marks if name.startswith("adder ") and name not in words and marks[name]
    ]
    if gone:
        await store.save(source, Batch(marks=dict.fromkeys(gone, "")), clock.now())
    for adder in added:
        name = f"adder {adder.name}"
        programs = await history.programs(clock.now(), adder.program)
        ours = bool(programs) and programs[0]["source"] == source.name
        if ours and marks.get(name) != words[name]:
            await _derive_all(source, store, history, clock, adder)
            await store.save(source, Batch(marks={name: words[name]}), clock.now())


async def _derive_all(
    source: Source, store: SignalStore, history: PriceHistory, clock: Clock, adder: Adder
) -> None:
    """Derive all that is known of a program, page by page, and withdraw what else was derived."""
    for series, tariff in await history.tariffs(adder.program):
        if not adders.concerns(tariff, adder):
            continue
        question = PriceQuestion(adder.program, EVER[0], limit=AT_ONCE, series=series)
        page, since = await history.prices(question), EVER[0]
        while page:
            last = page[-1]
            question = replace(question, after=last.place)
            following = await history.prices(question)
            until = last.end if following else EVER[1]
            prices = [Price(r.start, r.end, r.value, r.status, r.components) for r in page]
            said = Publication(tariff, prices, [(since, until)])
            derived = await asyncio.to_thread(adders.derive, said, adder)
            await store.save(source, Batch(publications=[derived], history=True), clock.now())
            page, since = following, until
