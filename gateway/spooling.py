"""Receipts -> Kafka, or, while Kafka takes none, a spool on disk that is drained into Kafka, in order, before newer ones are sent.

Delivery: at least once. A receipt is on disk, synced, or acknowledged by Kafka before its till hears of it; what was appended twice counts
once, by its natural key (G2). On disk as on our own topics, personal values are their keyed hashes.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from tillstream.gateway.composing import Composed
from tillstream.gateway.producer import KafkaAway, KafkaEvents
from tillstream.gateway.spool import Spool, SpoolFailed, SpoolFull
from tillstream.kernels.identities import Seal
from tillstream.kernels.sealing import seal_event
from tillstream.schemas.events import ReceiptEvent
from tillstream.sinks.writer import Record

Kept = Literal["sent", "spooled"]

DRAIN_ROWS_MAX = 200
"""Receipts appended at once; halved while Kafka does not acknowledge as many in time, lest it gets them again and again."""

AGAIN_S = 0.5
"""Between two attempts while Kafka is away."""

log = logging.getLogger("tillstream.spool")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, bytes, bytes]).decode


class Spooling:
    """Kafka with a spool in front; without a `folder`, Kafka alone. `run` drains.

    Raises:
        SpoolInUse, OSError: the folder can't be had.
    """

    def __init__(self, events: KafkaEvents, seal: Seal, folder: str, bytes_max: int) -> None:
        self.events = events
        self.seal = seal
        self.spool = Spool(Path(folder), bytes_max) if folder else None
        self.filled = asyncio.Event()
        self.filled.set()  # What an earlier process left is to be drained.

    async def submit(self, composed: Sequence[Composed]) -> Kept:
        """Keeps events for good before it returns; receipts go through the spool while it has others.

        Raises:
            KafkaAway: Kafka does not take them, and the spool has no room or is not for them.
        """
        spool = self.spool
        receipts = spool is not None and all(isinstance(event.event, ReceiptEvent) for event in composed)
        if spool is None or not receipts:
            await self.events.submit([event.record for event in composed])
            return "sent"
        if spool.records == 0:
            try:
                await self.events.submit([event.record for event in composed])
                return "sent"
            except KafkaAway as error:
                log.warning("spooling error=%s", error)
        try:
            await spool.append([self._body(event) for event in composed])
        except (SpoolFull, SpoolFailed) as error:
            raise KafkaAway(str(error)) from None
        self.filled.set()
        return "spooled"

    async def run(self) -> None:
        """Drains whenever there is something; ends when it is cancelled."""
        while self.spool is not None:
            await self.filled.wait()
            self.filled.clear()
            try:
                await self._drain(self.spool)
            except Exception:  # Whatever it was: what is on disk must not wait for the next start.
                log.exception("spool_not_drained records=%d", self.records)
                self.filled.set()
                await asyncio.sleep(AGAIN_S)

    async def _drain(self, spool: Spool) -> None:
        rows = DRAIN_ROWS_MAX
        while (batch := await spool.read(rows)) is not None:
            try:
                await self.events.submit([Record(*_decode(body)) for body in batch.bodies])
            except KafkaAway as error:
                if rows == DRAIN_ROWS_MAX:
                    log.warning("spool_waits records=%d error=%s", self.records, error)
                rows = max(1, rows // 2)
                await asyncio.sleep(AGAIN_S)
                continue
            rows = min(rows * 2, DRAIN_ROWS_MAX)
            await spool.acknowledge(batch)
        log.info("spool_drained")

    async def close(self) -> None:
        """Gives the folder free; what is not drained stays there for the next process."""
        if self.spool is not None:
            await self.spool.close()

    @property
    def records(self) -> int:
        """Receipts that wait."""
        return 0 if self.spool is None else self.spool.records

    @property
    def has_room(self) -> bool:
        """Whether receipts would be kept while Kafka is away."""
        return self.spool is not None and self.spool.bytes < self.spool.bytes_max

    def _body(self, event: Composed) -> bytes:
        topic, key, value = event.record[:3]
        _, sealed = seal_event(event.event, value or b"", self.seal)
        return _encode((topic, key, sealed))
