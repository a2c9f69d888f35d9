"""Source to store: everything a source says is kept before it is answered."""

import hashlib
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

from bridge import adders
from bridge.adders import Adder
from bridge.clock import Clock
from bridge.interfaces import Batch, PriceHistory, SignalStore, Source, SourceMemory, Surroundings
from bridge.model import Price, PriceQuestion, PriceRow, Publication, Tariff
from bridge.notation import from_millis
from bridge.supervise import Job

AT_ONCE = 5_000  # prices that are derived in one transaction


async def ingest(
    source: Source,
    store: SignalStore,
    memory: SourceMemory,
    history: PriceHistory,
    clock: Clock,
    job: Job,
    added: Sequence[Adder] = (),
) -> None:
    """Keep what a source says, and what local adders make of it; tell it so after the commit."""
    around = Surroundings(memory, clock, job.succeeded, job.warn)
    for adder in added:
        await derive_history(source, store, memory, history, clock, adder)
    async with aclosing(source.batches(around)) as batches:
        async for batch in batches:
            await store.save(source, with_derived(batch, added), clock.now())
            await batch.accepted()


def with_derived(batch: Batch, added: Sequence[Adder]) -> Batch:
    """Return a batch with what adders make of its prices."""
    derived = [
        adders.derive(publication, adder)
        for publication in batch.publications
        for adder in added
        if publication.tariff.program == adder.program
    ]
    return replace(batch, publications=[*batch.publications, *derived]) if derived else batch


async def derive_history(
    source: Source,
    store: SignalStore,
    memory: SourceMemory,
    history: PriceHistory,
    clock: Clock,
    adder: Adder,
) -> None:
    """Derive, once for each wording of an adder, from what is known of a source's program."""
    programs = await history.programs(clock.now(), adder.program)
    if not programs or programs[0]["source"] != source.name:
        return
    name = f"adder {adder.name}"
    wording = hashlib.sha256(adder.model_dump_json().encode()).hexdigest()
    if (await memory.marks(source.name)).get(name) == wording:
        return
    for tariff in await history.tariffs(adder.program):
        question = PriceQuestion(
            adder.program, from_millis(-(2**45)), payload_type=tariff.payload_type, limit=AT_ONCE
        )
        while page := await history.prices(question):
            publication = adders.derive(_publication(tariff, page), adder)
            batch = Batch(publications=[publication], history=True)
            await store.save(source, batch, clock.now())
            last = page[-1]
            question = replace(question, after=(last.program, last.series, last.start, last.since))
    await store.save(source, Batch(marks={name: wording}), clock.now())


def _publication(tariff: Tariff, page: Sequence[PriceRow]) -> Publication:
    prices = [Price(r.start, r.end, r.value, r.status, r.components) for r in page]
    return Publication(tariff, prices, [(page[0].start, page[-1].end)])
