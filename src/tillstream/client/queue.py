"""Receipts that wait at the till: on disk, in order, until the gateway has them.

In: bodies of receipts; `put` returns when they are synced (gateway/spool.py). Out: batches to the gateway, one at a time, each receipt the
same bytes however often; a batch is let go of when each of its receipts has an outcome. What was refused stays in `refused.jsonl` beside
the queue, with the reason, for a person to look at.

Delivery: at least once, in order; the natural key makes it once (G2).
"""

import asyncio
import logging
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from tillstream.client.asking import Away, Refused
from tillstream.client.patience import pause_s
from tillstream.errors import TillstreamError
from tillstream.gateway.answers import Outcome
from tillstream.gateway.bodies import EVENTS_MAX
from tillstream.gateway.problems import Problem
from tillstream.gateway.spool import Batch, Spool, SpoolFailed, SpoolFull, SpoolInUse

REFUSED = "refused.jsonl"

EVENT_OWN = {400, 409, 413, 422}
"""Statuses that speak of what was sent, not of who sent it or where to."""

FORBIDDEN = 403

Send = Callable[[Sequence[bytes]], Awaitable[list[Outcome]]]
Told = Callable[[bytes, Outcome], None]

log = logging.getLogger("tillstream.client")


class QueueFull(TillstreamError):
    """The queue has no room for a receipt, or the disk refuses; nothing was taken."""


class QueueUnusable(TillstreamError):
    """The folder cannot be had: another process has it, or it cannot be written."""


class Kept(Struct, frozen=True):
    """A line of `refused.jsonl`."""

    problem: Problem | None
    event: Raw


class OfflineQueue:
    """The queue in one folder, at most `bytes_max` of it; `told` hears what became of each receipt that went through it.

    Raises:
        QueueUnusable: see there.
    """

    def __init__(self, folder: Path, bytes_max: int, send: Send, told: Told | None) -> None:
        try:
            self.spool = Spool(folder, bytes_max)
        except (SpoolInUse, OSError) as error:
            raise QueueUnusable(f"queue {folder}: {error}") from None
        self.refused = folder / REFUSED
        self.bytes_max = bytes_max
        self.send, self.told = send, told
        self.rows, self.failures = EVENTS_MAX, 0
        self.filled, self.empty = asyncio.Event(), asyncio.Event()
        self.filled.set()  # What an earlier process left is to be sent.
        self.task = asyncio.create_task(self._run())

    @property
    def records(self) -> int:
        """Receipts that wait."""
        return self.spool.records

    async def put(self, body: bytes) -> int:
        """Takes a receipt, which is synced to disk on return; how many wait, it included.

        Raises:
            QueueFull: see there.
        """
        try:
            await self.spool.append([body])
        except (SpoolFull, SpoolFailed) as error:
            raise QueueFull(f"queue {error}; nothing was taken") from None
        finally:
            self.filled.set()
        return self.records

    async def drained(self, seconds: float) -> bool:
        """Waits until nothing is left; False: not within so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.records:
                    self.empty.clear()
                    await self.empty.wait()
        return self.records == 0

    async def close(self) -> None:
        """Stops sending; what is left stays for the next process."""
        self.task.cancel()
        await asyncio.wait([self.task])
        await self.spool.close()

    async def _run(self) -> None:
        while True:
            await self.filled.wait()
            self.filled.clear()
            try:
                await self._drain()
                continue
            except (Away, QueueFull) as error:
                asked = error.retry_after_s if isinstance(error, Away) else 0.0
                log.warning("queue_waits receipts=%d error=%s", self.records, error)
            except Refused as error:  # The key, or the address: for a person to mend, and no receipt's fault.
                asked = 0.0
                log.error("queue_refused receipts=%d error=%s", self.records, error)
            except Exception:  # Whatever it was: what is on disk must not wait for the next start.
                asked = 0.0
                log.exception("queue_failed receipts=%d", self.records)
            self.failures += 1
            self.filled.set()
            await asyncio.sleep(pause_s(self.failures, asked, random.random()))

    async def _drain(self) -> None:
        while (batch := await self.spool.read(self.rows)) is not None:
            try:
                outcomes = await self.send(batch.bodies)
            except Away:  # Perhaps it cannot take as many in time, and would get them again and again.
                self.rows = max(1, len(batch.bodies) // 2)
                raise
            except Refused as error:
                if not is_own(error.problem):
                    raise
                if len(batch.bodies) > 1:  # Too long for one request, or one of them spoils it: fewer at a time.
                    self.rows = len(batch.bodies) // 2
                    continue
                outcomes = [Outcome("refused", "", problem=error.problem)]
            await self._settle(batch, outcomes)
            self.rows, self.failures = min(self.rows * 2, EVENTS_MAX), 0
        self.empty.set()

    async def _settle(self, batch: Batch, outcomes: list[Outcome]) -> None:
        """Lets go of a batch, each receipt of which has its outcome; what was refused is on disk first."""
        lines = [
            msgspec.json.encode(Kept(outcome.problem, Raw(body))) + b"\n"
            for body, outcome in zip(batch.bodies, outcomes, strict=True)
            if outcome.outcome == "refused"
        ]
        if lines:
            await asyncio.to_thread(keep, self.refused, lines, self.bytes_max)
        await self.spool.acknowledge(batch)
        if self.told is not None:
            for body, outcome in zip(batch.bodies, outcomes, strict=True):
                self.told(body, outcome)


def is_own(problem: Problem) -> bool:
    """Whether a problem is the event's own, so that sending it again is of no use; a key that is for nothing here is not."""
    return problem.status in EVENT_OWN or (problem.status == FORBIDDEN and problem.path is not None)


def keep(path: Path, lines: Sequence[bytes], bytes_max: int) -> None:
    """Appends lines to a file, synced on return.

    Raises:
        QueueFull: the file has grown beyond `bytes_max`.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size > bytes_max:
            raise QueueFull(f"{path}: {size} bytes of refused receipts; look at them, then remove the file")
        # A process that died in the middle of a line left no end of it.
        os.write(descriptor, (b"\n" if size else b"") + b"".join(lines))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
