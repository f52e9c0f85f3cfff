"""outcomes -> models: what became of decisions is learned from, in the order of the topic (models/learning.py).

A batch goes through these steps, in this order:

(1) decode; what is no event of the topic becomes a dead letter;
(2) take the events, one by one;
(3) append the dead letters;
(4) every `CHECKPOINT_RECORDS` records write the checkpoint to Redis: the learner, its offset, the champions for those who decide;
(5) acknowledge.

A timer writes the checkpoint as well, every `CHECKPOINT_S` seconds in which there was anything new.

On assignment the learner is loaded, and consumption begins behind its offset, whatever Kafka has for committed: so what a killed worker had
read since its last checkpoint is read again. Delivery: exactly once as far as models go, since state and offset are written as one; dead
letters at least once.
"""

import asyncio
from collections.abc import Sequence

import structlog
from confluent_kafka import Message

from tillstream.models.checkpoints import CheckpointRefused, Signer
from tillstream.models.learning import Learner
from tillstream.schemas.events import Malformed
from tillstream.schemas.offers import decode_outcome
from tillstream.sinks.checkpoints import CheckpointStore
from tillstream.sinks.writer import Record, Writer
from tillstream.streams.identify import deadletter

_log = structlog.get_logger(__name__)

CHECKPOINT_RECORDS = 5_000
"""Read again after a crash: some seconds."""

CHECKPOINT_S = 5.0
"""So old models are with those who decide: a moment, beside the window of an offer."""


class Learn:
    """Keeps the learner; `start` before the first batch."""

    def __init__(self, store: CheckpointStore, writer: Writer, signer: Signer) -> None:
        self.store = store
        self.writer = writer
        self.signer = signer
        self.learner = Learner()
        self.offset = self.saved = -1
        # A batch and the timer never see each other's half.
        self.turn = asyncio.Lock()

    async def start(self) -> int:
        """Loads the checkpoint; gives the offset to go on from, 0 where everything is to be learned anew."""
        async with self.turn:
            return await self._load() + 1

    async def _load(self) -> int:
        self.learner, self.offset = Learner(), -1
        if (stored := await self.store.load()) is not None:
            try:
                self.learner, self.offset = self.signer.unpack(stored.checkpoint)
            except CheckpointRefused as refused:
                _log.warning("checkpoint_refused", reason=refused.reason)
                # Its offset would refuse every checkpoint of the learner that starts over.
                await self.store.forget()
        self.saved = self.offset
        return self.offset

    async def learn(self, messages: Sequence[Message]) -> None:
        """Takes one batch through the steps of the module."""
        async with self.turn:
            await self._learn(messages)
            if self.offset - self.saved >= CHECKPOINT_RECORDS:
                await self._checkpoint()  # (4)

    async def _learn(self, messages: Sequence[Message]) -> None:
        records: list[Record] = []
        for message in messages:
            offset = message.offset() or 0
            if offset <= self.offset:
                continue
            try:
                event = decode_outcome(message.value() or b"")  # (1)
            except Malformed as problem:
                records.append(deadletter(problem, message))
            else:
                self.learner.take(event)  # (2)
            self.offset = offset
            await asyncio.sleep(0)  # One lesson of a forest takes a millisecond, a batch of them would stop the timers.
        await self.writer.append(records)  # (3)

    async def checkpoint(self) -> None:
        """Writes the checkpoint, if there is anything new; also before stopping."""
        async with self.turn:
            await self._checkpoint()

    async def _checkpoint(self) -> None:
        if self.offset > self.saved:
            checkpoint = await asyncio.to_thread(self.signer.pack, self.learner, self.offset)
            champions = await asyncio.to_thread(self.signer.pack_champions, self.learner, self.offset)
            await self.store.save(self.offset, checkpoint, champions)
            self.saved = self.offset
