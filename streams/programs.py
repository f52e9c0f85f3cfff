"""programs -> what the worker judges by: the topic is read to its end before anything is judged, and followed from then on.

The topic has one partition and every worker reads all of it, so this is no agent of the consumer group but a reader of its own. A new
version takes effect between two batches. Where nothing was published yet, the worker publishes its seed, the program file of its
configuration: two workers with the same file append the same record twice, which the key makes one.

Delivery: a program counts from the first look after it was acknowledged, at most `FOLLOW_EVERY_S` later, in each worker by itself.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Message

from tillstream.kernels.posters import Posters
from tillstream.kernels.shelf import Shelf
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.publishing import Published, encode_published, key_of, published
from tillstream.streams.appending import append
from tillstream.streams.following import Follower, text_key
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import PROGRAMS

FOLLOW_EVERY_S = 1.0
"""Programs are published for tomorrow, so a second is soon enough; each look costs microseconds."""

log = logging.getLogger("faust.tillstream.programs")


class NoProgram(Exception):
    """Nothing is published and there is no seed: nobody knows what to judge by."""


class Programs:
    """Keeps a worker's posters up to date with the topic; `seed` is the text of the configured program file."""

    def __init__(self, kafka: Mapping[str, Any], seed: str | None) -> None:
        self.kafka = kafka
        self.seed = seed
        self.shelf = Shelf()
        self.follower = Follower(kafka, PROGRAMS)

    async def start(self) -> Posters:
        """Reads the topic to its end, publishes the seed where nothing holds, and begins to follow; what to judge with."""
        await asyncio.to_thread(self._read_to_the_end)
        if self.shelf.timetable() is None and self.seed is not None:
            seed = published(parse_program(self.seed), self.seed, datetime.now(UTC))
            await asyncio.to_thread(publish, self.kafka, [seed])
            await asyncio.to_thread(self._read_to_the_end)
        timetable = self.shelf.timetable()
        if timetable is None:
            raise NoProgram("no program is published and none is configured: tillstream program publish FILE, or the setting `program`")
        self.posters = Posters(timetable)
        self._report(timetable)
        return self.posters

    async def follow(self) -> None:
        """Takes what was published since the last look; the broker is not waited for."""
        messages = self.follower.look()
        for message in messages:
            self.shelf.put(*record_of(message))
        # In a thread: many versions take their time to compare, and batches go on meanwhile.
        timetable = await asyncio.to_thread(self.shelf.timetable) if messages else None
        if timetable is not None:
            self.posters.exchange(timetable)
            self._report(timetable)

    def stop(self) -> None:
        """Follows no more."""
        self.follower.close()

    def _read_to_the_end(self) -> None:
        for message in self.follower.to_the_end():
            self.shelf.put(*record_of(message))

    def _report(self, timetable: Timetable) -> None:
        for item in self.shelf.shelved():
            if item.problem:
                log.error("program_passed_over key=%s problem=%s", item.key, item.problem)
        versions = (f"{v.program.program.id}/{v.version} from {v.program.program.effective_from or 'always'}" for v in timetable.versions)
        log.info("programs %s", ", ".join(versions))


def read_shelf(kafka: Mapping[str, Any]) -> Shelf:
    """Everything that is published now."""
    return Shelf(record_of(message) for message in read_topic(kafka, PROGRAMS, 0, 0))


def record_of(message: Message) -> tuple[str, bytes | None]:
    """Key and value."""
    return text_key(message), message.value()


def publish(kafka: Mapping[str, Any], versions: Sequence[Published]) -> None:
    """Appends versions, in this order; acknowledged by all replicas when this returns.

    Raises:
        KafkaException: it was not.
    """
    append(kafka, PROGRAMS, [(key_of(data), encode_published(data)) for data in versions])
