"""Source to store: everything a source says is kept before it is answered."""

from contextlib import aclosing

from bridge.clock import Clock
from bridge.interfaces import SignalStore, Source, SourceMemory, Surroundings
from bridge.supervise import Job


async def ingest(
    source: Source, store: SignalStore, memory: SourceMemory, clock: Clock, job: Job
) -> None:
    """Keep what a source says; tell it so after the commit, and only then."""
    around = Surroundings(memory, clock, job.succeeded, job.warn)
    async with aclosing(source.batches(around)) as batches:
        async for batch in batches:
            await store.save(source, batch, clock.now())
            await batch.accepted()
