"""A history through a gateway, as its tills would send it: what nobody takes at once waits on disk and goes out later.

In: enrolments, then receipts, in their order but for what is on its way at the same time. Out: what became of them.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from tillstream.client import Client, Queued, Refused
from tillstream.errors import TillstreamError, UsageError
from tillstream.gateway.answers import Outcome
from tillstream.histories import Event, History

TILLS = 32
"""Events on their way at the same time: a gateway hands over to Kafka what came within 10 ms."""

ENROL_S = 60.0
"""How long an enrolment is asked for again: it has no queue, and the key's share may be small."""

QUEUED_MAX = 5_000
"""Beyond so many receipts on disk none is sent before they are through: some 8 MB, and the gateway is asked for no more than it takes."""

LOOK_S = 0.5
STUCK_S = 60.0
"""When nothing leaves the queue for this long, the replay gives up and says so; twice the longest pause of a client."""

Progress = Callable[[int], None]


class Replay:
    """One history on its way; `outcomes` counts what became of its events, `queued` those that had to wait on disk."""

    def __init__(self, office: Client, till: Client, progress: Progress) -> None:
        self.office, self.till, self.progress = office, till, progress
        self.outcomes: Counter[str] = Counter()
        self.sent, self.queued = 0, 0
        self.first_refusal: str | None = None

    def told(self, body: bytes, outcome: Outcome) -> None:
        """Counts what became of one event; `body` is of one that had waited."""
        self.outcomes[outcome.outcome] += 1
        problem = outcome.problem
        if problem is not None and self.first_refusal is None:
            where = f" at {problem.path}" if problem.path else ""
            self.first_refusal = f"{orjson.loads(body)['id']}: {problem.code}{where}: {problem.detail}"

    async def send(self, event: Event, by: Client) -> None:
        """One event, receipts by `by`, enrolments by the office.

        Raises:
            UsageError: it is of a type that tills do not send.
        """
        kind, body = event.get("type", ""), orjson.dumps(event)
        if kind == "member.enrolled":
            outcome: Outcome | Queued = await self.office.enrol(body)
        elif str(kind).startswith("receipt."):
            outcome = await by.post(body)
        else:
            raise UsageError(f"event {event.get('id')!r}: a {kind!r} does not go through a gateway with replay; leave out --gateway")
        self.sent += 1
        self.progress(self.sent)
        if isinstance(outcome, Queued):
            self.queued += 1
        else:
            self.told(body, outcome)

    async def send_all(self, events: Iterable[Event], rate: float | None) -> None:
        """All events, at most `rate` a second, `TILLS` at the same time; the first one alone and by no queue, so that a key that is not for
        this is told.
        """
        started, slots = time.monotonic(), asyncio.Semaphore(TILLS)

        async def one(event: Event) -> None:
            try:
                await self.send(event, self.till)
            finally:
                slots.release()

        remaining = iter(events)
        for event in islice(remaining, 1):
            await self.send(event, self.office)
        try:
            async with asyncio.TaskGroup() as tills:
                for number, event in enumerate(remaining, 1):
                    await asyncio.sleep(max(0.0, number / rate - (time.monotonic() - started)) if rate else 0)
                    if self.till.queued > QUEUED_MAX:
                        await self.drain()
                    await slots.acquire()
                    tills.create_task(one(event))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def drain(self) -> None:
        """Waits until nothing is queued.

        Raises:
            TillstreamError: nothing has gone out for `STUCK_S` seconds.
        """
        least, deadline = self.till.queued, time.monotonic() + STUCK_S
        while not await self.till.drained(LOOK_S):
            if self.till.queued < least:
                least, deadline = self.till.queued, time.monotonic() + STUCK_S
            if time.monotonic() > deadline:
                raise TillstreamError(
                    f"{self.till.url} has taken nothing for {STUCK_S:.0f} s, {self.till.queued} receipts wait; "
                    "run the same again when it answers: what it has taken counts once"
                )


async def replay_through(
    url: str, key: str, history: History, rate: float | None, queue: Path, progress: Progress, *, signed: bool = False
) -> dict[str, Any]:
    """Sends a history through the gateway at `url`, keeping what waits in the folder `queue`; figures of what became of it.

    Raises:
        TillstreamError: the gateway does not answer, or has stopped answering; the key is not for this; a type that tills do not send.
    """
    started = time.monotonic()
    office = Client(url, key, signed=signed, patience_s=ENROL_S)
    till = Client(url, key, signed=signed, queue=queue)
    replay = Replay(office, till, progress)
    till.told = replay.told
    async with office, till:
        try:
            await till.identify("member", "nobody")  # Whether somebody is there, and knows the key.
            await replay.send_all(history.enrolments, None)
            enrolled = replay.sent
            await replay.send_all(history.receipts, rate)
        except Refused as refused:
            raise UsageError(f"--key: {refused}") from None
        await replay.drain()
    return {
        "enrolments": enrolled,
        "events": replay.sent - enrolled,
        "queued": replay.queued,
        "outcomes": dict(replay.outcomes),
        "first_refusal": replay.first_refusal,
        "seconds": round(time.monotonic() - started, 2),
    }
