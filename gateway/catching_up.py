"""What a listener that comes back has missed: from the feed's buffer, or, where that does not reach, from Kafka.

    last id          floor of the buffer          now
       ├── read back ───────┼────── buffered ──────┼── live ─►
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice

from confluent_kafka import Message

from tillstream.gateway.feed import Entry, Feed, entry_of
from tillstream.gateway.marks import Mark, latest, mark_text, passed
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import TRIGGERS

READ_BACK_MAX = 10_000
"""Records that are read again for one listener: an hour away, in an installation that triggers three times a second."""

ROWS_MAX = 500

AHEAD_MAX = 10_000
"""How far another gateway may have been ahead of this one. An id further on is of a topic that is no more."""


class Progress:
    """How far one listener is, and what ids it is told; an id never goes back, whatever the gateway that gave the last one had read."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.ahead = True

    def is_new(self, entry: Entry) -> bool:
        """Whether the listener does not have it yet."""
        return not self.ahead or entry.offset >= self.mark[entry.partition]

    def reread(self, entry: Entry) -> str:
        """The id behind an entry that was read back."""
        self.mark = entry.mark
        return mark_text(self.mark)

    def behind(self, entry: Entry) -> str:
        """The id behind an entry of the feed."""
        if not self.ahead:
            return entry.id
        self.mark = latest(self.mark, entry.mark)
        self.ahead = self.mark != entry.mark
        return mark_text(self.mark)

    def at(self, feed: Feed) -> str:
        """The id of one who has had everything that there is."""
        return mark_text(latest(self.mark, feed.mark) if self.ahead else feed.mark)


class CatchingUp:
    """What lies between `after` and what is handed over live; made in the moment in which the listener is added.

    Attributes:
        start: the mark from which nothing will be missed.
        gap: whether something between `after` and `start` is missed.
    """

    def __init__(self, feed: Feed, after: Mark | None) -> None:
        self.feed = feed
        self.buffered = list(feed.buffer) if after is not None else []
        self.floor = feed.floor
        wanted = feed.mark if after is None else after
        unread = sum(max(0, floor - offset) for floor, offset in zip(feed.floor, wanted, strict=True))
        foreign = any(offset > here + AHEAD_MAX for here, offset in zip(feed.mark, wanted, strict=True))
        self.gap = foreign or unread > READ_BACK_MAX
        self.start = feed.floor if self.gap else wanted
        self.unread = 0 if self.gap else unread

    async def read_back(self) -> AsyncIterator[Entry]:
        """What the buffer does not have any more, partition by partition; each entry's mark is the listener's own behind it.

        Raises:
            KafkaException: the broker fails, or is silent.
        """
        if not self.unread:
            return
        async with self.feed.read_back_turns:
            messages = self._messages()
            while rows := await asyncio.to_thread(lambda: list(islice(messages, ROWS_MAX))):
                for message, mark in rows:
                    entry = entry_of(message, mark)
                    if entry is not None:
                        yield entry

    def _messages(self) -> Iterator[tuple[Message, Mark]]:
        mark = self.start
        for partition, floor in enumerate(self.floor):
            if mark[partition] >= floor:
                continue
            for message in read_topic(self.feed.kafka, TRIGGERS, partition, mark[partition]):
                offset = message.offset() or 0
                if offset >= floor:
                    break
                mark = passed(mark, partition, offset)
                yield message, mark
            mark = passed(mark, partition, floor - 1)
