"""The triggers as they come -> everybody who listens at this gateway: one reader of the topic, a buffer for those who come back.

    triggers ─ Tail ─► Feed ─┬─► buffer: the latest, for `Last-Event-ID`
                             ├─► listeners of campaigns: all of them
                             └─► listeners of a visitor: that visitor's alone

Delivery: a listener gets every record behind its mark once, or is cut off, or is told of a gap. One that does not keep up is cut off: it
comes back with its mark.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

from confluent_kafka import Message

from tillstream.gateway.marks import Mark, mark_text, passed
from tillstream.gateway.metrics import Metrics
from tillstream.gateway.tail import Tail
from tillstream.schemas.events import Malformed
from tillstream.schemas.offers import Triggered, decode_trigger
from tillstream.streams.topics import TRIGGERS

BUFFER_MAX = 5_000
"""Triggers kept for those who come back: minutes of a busy hour, some five megabytes."""

BUFFER_BYTES_MAX = 32 * 1024 * 1024
"""Where they name many goods each."""

QUEUE_MAX = 1_000
"""Triggers that wait for one listener; who is further behind does not read."""

LISTENERS_MAX = 100
"""Streams of all triggers at once: people and systems that run campaigns."""

VISITOR_MAX = 8
"""Streams of one visitor at once: tabs of a browser."""

READERS_MAX = 4
"""Listeners that Kafka is read for at once: when a gateway was started again, all of them come at once."""

log = logging.getLogger("tillstream.triggers")


class Entry(NamedTuple):
    """A trigger as it came; `mark` is behind it and all that came before, `id` the same as text."""

    partition: int
    offset: int
    raw: bytes
    trigger: Triggered
    mark: Mark
    id: str


class Full(Exception):
    """So many listen already; the message says which bound it is."""


class Listener:
    """One who listens. `visitor`: whose triggers; None: everybody's. `cut` ends the connection, in whatever state it is."""

    def __init__(self, visitor: str | None, cut: Callable[[], None]) -> None:
        self.visitor = visitor
        self.cut = cut
        self.queue: asyncio.Queue[Entry | None] = asyncio.Queue(QUEUE_MAX + 1)
        self.gone = False

    def put(self, entry: Entry) -> None:
        """Hands over an entry; where there is no room for it, the listener is cut off."""
        if self.queue.qsize() < QUEUE_MAX and not self.gone:
            self.queue.put_nowait(entry)
        elif not self.gone:
            self.gone = True
            self.cut()

    def end(self) -> None:
        """Nothing more will come."""
        if not self.queue.full():
            self.queue.put_nowait(None)


class Feed:
    """Fans the topic out; it reads nothing before the first listener comes. `pages_max`: streams of visitors at once."""

    def __init__(self, kafka: Mapping[str, Any], partitions: int, pages_max: int, metrics: Metrics) -> None:
        self.kafka = kafka
        self.partitions = partitions
        self.pages_max = pages_max
        self.metrics = metrics
        self.starting = asyncio.Lock()
        self.read_back_turns = asyncio.Semaphore(READERS_MAX)
        self.tail: Tail | None = None
        self.mark: Mark = ()
        self.floor: Mark = ()
        self.buffer: deque[Entry] = deque()
        self.buffer_bytes = 0
        self.decisions: set[str] = set()
        self.everybody: set[Listener] = set()
        self.visitors: dict[str, set[Listener]] = {}
        self.pages = 0

    async def start(self) -> None:
        """Begins to read at the topic's end, where that was not begun.

        Raises:
            KafkaException: the broker fails, or is silent.
        """
        async with self.starting:
            if self.tail is None:
                tail = Tail(self.kafka, TRIGGERS, self.partitions, self.take, self._ended)
                self.buffer.clear()
                self.buffer_bytes = 0
                self.decisions.clear()
                self.mark = self.floor = await tail.start()
                self.tail = tail

    async def stop(self) -> None:
        """Ends the streams, then reads no more."""
        self.end_all()
        if self.tail is not None:
            await self.tail.stop()

    def end_all(self) -> None:
        """Ends all streams; their listeners come back, here or at another gateway."""
        for listener in chain(self.everybody, *self.visitors.values()):
            listener.end()

    def _ended(self) -> None:
        self.tail = None
        self.end_all()

    def take(self, messages: list[Message]) -> None:
        """Records of the topic, in order: into the buffer, and to whom they concern."""
        for message in messages:
            partition, offset = message.partition() or 0, message.offset() or 0
            self.mark = passed(self.mark, partition, offset)
            entry = entry_of(message, self.mark)
            if entry is None or entry.trigger.decision_id in self.decisions:  # What a worker that died appends again counts once.
                continue
            self._keep(entry)
            for listener in (*self.everybody, *self.visitors.get(entry.trigger.visitor_id or "", ())):
                listener.put(entry)

    def _keep(self, entry: Entry) -> None:
        self.buffer.append(entry)
        self.buffer_bytes += len(entry.raw)
        self.decisions.add(entry.trigger.decision_id)
        while len(self.buffer) > BUFFER_MAX or self.buffer_bytes > BUFFER_BYTES_MAX:
            oldest = self.buffer.popleft()
            self.buffer_bytes -= len(oldest.raw)
            self.decisions.discard(oldest.trigger.decision_id)
            self.floor = passed(self.floor, oldest.partition, oldest.offset)

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Hands the listener what comes from now on.

        Raises:
            Full: so many listen already.
        """
        visitor = listener.visitor
        group = self.everybody if visitor is None else self.visitors.get(visitor, set())
        if len(group) >= (LISTENERS_MAX if visitor is None else VISITOR_MAX):
            raise Full(f"{len(group)} streams of {'all triggers' if visitor is None else 'this visitor'} are open already")
        if visitor is not None and self.pages >= self.pages_max:
            raise Full(f"{self.pages} streams of pages are open already (setting gateway_pages_max)")
        if visitor is not None:
            self.visitors[visitor] = group
            self.pages += 1
        group.add(listener)
        open_now = self.metrics.listeners.labels("all" if visitor is None else "page")
        open_now.inc()
        try:
            yield
        finally:
            group.discard(listener)
            open_now.dec()
            if visitor is not None:
                self.pages -= 1
            if visitor is not None and not group:
                self.visitors.pop(visitor, None)


def entry_of(message: Message, mark: Mark) -> Entry | None:
    """The trigger in a record; None: it is none, which the log tells."""
    raw = message.value() or b""
    partition, offset = message.partition() or 0, message.offset() or 0
    try:
        return Entry(partition, offset, raw, decode_trigger(raw).data, mark, mark_text(mark))
    except Malformed as malformed:
        log.warning("trigger_passed_over partition=%d offset=%d path=%s", partition, offset, malformed.path)
        return None
