"""vouchers -> Redis: the events of the topic become what each code is, in their order (kernels/vouchers.py). The topic is the truth.

A batch goes through these steps, some thousand codes at a time:

(1) decode; what is no event of vouchers is passed over and told in the log: the topic, which only we write, keeps it;
(2) read the codes and batches that the events name;
(3) take the events one after the other;
(4) apply what changed to Redis in one function call, fenced on the offset at which the view stood before (2);
(5) reply to the gateways that asked;
(6) acknowledge.

Where Redis has lost what it had, since it was emptied or rolled back, what lies between it and the batch is read from the topic first. A
crash anywhere leaves the topic, and the view goes on from its own offset.

Delivery: exactly once in effect; the idempotency key is the offset.
"""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from confluent_kafka import Message

from tillstream.kernels.vouchers import Status, batch_name, is_swept
from tillstream.schemas.events import Malformed
from tillstream.schemas.replies import Reply, refused
from tillstream.schemas.vouchers import IssuedEvent, RevokedEvent, VoucherEvent, decode_voucher
from tillstream.sinks.replies import Replies
from tillstream.sinks.vouchers import VoucherStore
from tillstream.streams.rebuild import in_thread
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import VOUCHERS

STEP_CODES_MAX = 2_000
"""Codes that one step takes, and a block more: bounds its memory and its function call, some milliseconds of Redis."""

TAKEN = ("accepted", "duplicate")

log = logging.getLogger("faust.tillstream.vouchers")


class Taken(NamedTuple):
    """One record of the topic: its offset, its event (None: it is none), and what became of it."""

    offset: int
    event: VoucherEvent | None
    status: Status | None = None


class VoucherView:
    """Keeps Redis at the topic; `kafka` is librdkafka's settings."""

    def __init__(self, store: VoucherStore, kafka: Mapping[str, Any], replies: Replies) -> None:
        self.store = store
        self.kafka = kafka
        self.replies = replies
        self.swept: set[str] = set()

    async def sweep(self, now: datetime) -> None:
        """Deletes from Redis the codes of batches that are over for long, once in the life of this worker."""
        batches = {name: batch for name, batch in (await self.store.batches()).items() if is_swept(batch, now) and name not in self.swept}
        if batches:
            log.info("vouchers_swept batches=%d codes=%d", len(batches), await self.store.sweep(batches, now))
            self.swept |= batches.keys()

    async def recover(self) -> int:
        """On assignment: fills Redis where it has not all; gives the offset to go on from."""
        view = await self.store.view()
        return view.offset + 1 if view.whole else await self.catch_up()

    async def catch_up(self) -> int:
        """Applies what the topic has and the view has not; gives the offset to go on from. Nobody is replied to."""
        offset = (await self.store.view()).offset
        async for step in steps(in_thread(read_topic(self.kafka, VOUCHERS, 0, offset + 1))):
            await self._apply(step, offset)
            offset = step[-1].offset
        await self.store.note_whole(offset)
        return offset + 1

    async def take(self, messages: Sequence[Message]) -> None:
        """Takes one batch through the steps of the module."""
        view = await self.store.view()
        if view.offset + 1 < (messages[0].offset() or 0) or not view.whole:
            await self.catch_up()
            view = await self.store.view()
        offset = view.offset
        async for step in steps(each([message for message in messages if (message.offset() or 0) > offset])):
            taken = await self._apply(step, offset)
            offset = step[-1].offset
            replies = [reply for item in taken if (reply := reply_to(item)) is not None]
            if replies:
                await self.replies.send(replies)  # (5)

    async def _apply(self, step: Sequence[Taken], before: int) -> list[Taken]:
        """The records of one step, with what became of each."""
        events = [item.event for item in step if item.event is not None]
        vouchers = await self.store.load(digests_in(events), await self._batches_in(events))  # (2)
        taken = [item if item.event is None else item._replace(status=vouchers.take(item.event)) for item in step]  # (3)
        await self.store.apply(vouchers, before, step[-1].offset)  # (4)
        for item in taken:
            if isinstance(item.event, IssuedEvent | RevokedEvent) and item.status not in TAKEN:
                log.error("voucher_event_without_effect offset=%d reason=%s", item.offset, item.status)
        return taken

    async def _batches_in(self, events: Sequence[VoucherEvent]) -> list[str]:
        """The batches that events name; all there are where a series is revoked."""
        known = list(await self.store.batches()) if any(isinstance(event, RevokedEvent) for event in events) else []
        return [*known, *(batch_name(event.data.series, event.data.batch) for event in events if isinstance(event, IssuedEvent))]


async def steps(messages: AsyncIterator[Message]) -> AsyncIterator[list[Taken]]:
    """Records in order, so many at a time that they name `STEP_CODES_MAX` codes."""
    step: list[Taken] = []
    codes = 0
    async for message in messages:
        item = decoded(message)
        step.append(item)
        codes += len(item.event.data.digests) if isinstance(item.event, IssuedEvent) else 1
        if codes >= STEP_CODES_MAX:
            yield step
            step, codes = [], 0
    if step:
        yield step


async def each(messages: Sequence[Message]) -> AsyncIterator[Message]:
    """A batch, as what is read from a topic comes."""
    for message in messages:
        yield message


def decoded(message: Message) -> Taken:
    """(1)"""
    offset = message.offset() or 0
    try:
        return Taken(offset, decode_voucher(message.value() or b""))
    except Malformed as problem:
        log.error("voucher_event_passed_over offset=%d path=%s problem=%s", offset, problem.path, problem.message)
        return Taken(offset, None)


def reply_to(item: Taken) -> Reply | None:
    """What became of an event that asked; None: it did not ask."""
    if item.event is None or item.event.replyto is None or item.status is None:
        return None
    if item.status not in TAKEN:
        return refused(item.event.replyto, "", Malformed(item.status, "$.code", item.status))
    return Reply(item.event.replyto, "accepted" if item.status == "accepted" else "duplicate")


def digests_in(events: Sequence[VoucherEvent]) -> list[str]:
    """The codes that events name."""
    found: list[str] = []
    for event in events:
        if isinstance(event, IssuedEvent):
            found += event.data.digests
        elif event.data.digest is not None:
            found.append(event.data.digest)
    return found
