"""What waits for one endpoint, in the order of its next attempts; how an endpoint fares is no other's business.

    waiting ─ due ─► at most `at_once` attempts ─┬─► settled
       ▲                                         └─► failed: waits for the next attempt
       └── the circuit is open: after five failures in a row nothing goes for half a minute, then one attempt
"""

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tillstream.schemas.deliveries import Delivery
from tillstream.schemas.offers import Triggered

WAITING_MAX = 10_000
"""Of one endpoint in one worker, a kilobyte or two each; beyond it triggers are dead letters, to be replayed."""

FAILURES_MAX = 5
"""In a row: the endpoint is away, and every further attempt would cost one of its few."""

BREAK_S = 30.0

NOTHING_DUE_S = 60.0


class Parked(NamedTuple):
    """A delivery that waits for its next attempt at `due_s`, seconds since 1970."""

    due_s: float
    number: int
    partition: int
    delivery: Delivery
    trigger: Triggered
    raw: bytes


class Lane:
    """One endpoint's; `attempt` makes one and gives whether the endpoint answered, and when to come again, None: never."""

    def __init__(self, name: str, at_once: int, attempt: Callable[[Parked], Awaitable[tuple[bool, float | None]]]) -> None:
        self.name = name
        self.at_once = at_once
        self.attempt = attempt
        self.waiting: list[Parked] = []
        self.under_way: set[asyncio.Task[None]] = set()
        self.wake = asyncio.Event()
        self.failures = 0
        self.opens_at_s = 0.0
        self.numbers = 0

    @property
    def is_full(self) -> bool:
        return len(self.waiting) + len(self.under_way) >= WAITING_MAX

    def put(self, partition: int, delivery: Delivery, trigger: Triggered, raw: bytes, due_s: float = 0.0) -> None:
        """Lets a delivery wait until `due_s`."""
        self.numbers += 1
        heapq.heappush(self.waiting, Parked(due_s, self.numbers, partition, delivery, trigger, raw))
        self.wake.set()

    async def clear(self) -> None:
        """Forgets what waits, and waits for the attempts that are under way."""
        self.waiting.clear()
        await asyncio.gather(*self.under_way, return_exceptions=True)
        self.waiting.clear()

    async def run(self) -> None:
        """Makes attempts as they fall due; ends when it is cancelled, or where an attempt can't be noted."""
        while True:
            self.wake.clear()
            now_s = time.time()
            room = (1 if self.failures >= FAILURES_MAX else self.at_once) - len(self.under_way)
            while room > 0 and self.waiting and self.next_s <= now_s:
                self._begin(heapq.heappop(self.waiting))
                room -= 1
            pause_s = max(0.0, self.next_s - now_s) if self.waiting and room > 0 else NOTHING_DUE_S
            try:
                async with asyncio.timeout(min(pause_s, NOTHING_DUE_S)):
                    await self.wake.wait()
            except TimeoutError:
                continue

    @property
    def next_s(self) -> float:
        """When the next attempt may be made."""
        return max(self.waiting[0].due_s, self.opens_at_s)

    def _begin(self, parked: Parked) -> None:
        task = asyncio.create_task(self._try(parked))
        self.under_way.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.under_way.discard(task)
        self.wake.set()

    async def _try(self, parked: Parked) -> None:
        answered, again_s = await self.attempt(parked)
        self.failures = 0 if answered else self.failures + 1
        if self.failures >= FAILURES_MAX:
            self.opens_at_s = time.time() + BREAK_S
        if again_s is not None:
            self.put(parked.partition, parked.delivery, parked.trigger, parked.raw, again_s)
