"""Tills for `lane`, in a process of their own: they ask when the clock says so, whether or not the answers before have come (open loop).

In: a line of JSON per phase on standard input, then the moment at which it begins. Out: a line when it is prepared, and one with what was
measured. Latencies run from the moment at which a request was due, so what waits, here or there, is counted: no coordinated omission.
"""

import argparse
import asyncio
import gc
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

import msgspec
import orjson
import uvloop
from hdrh.histogram import HdrHistogram
from msgspec import Struct

from loadtest.load import LINES
from tillstream.client import Away, Client, Queued, Refused
from tillstream.collector import spare_the_collector
from tillstream.gateway.answers import Identified, Outcome, Quoted
from tillstream.sources.generated import card_number, fixed_size

MEMBERS = 10_000
"""Cards that are enrolled, and of whom all requests are."""

RECEIPTS_MAX = 10_000_000
STORES = 400

WAIT_MS = 5_000
"""Longer than anything that is measured, so that a slow answer counts as slow and not as none."""

US_MAX, DIGITS = 60_000_000, 3
"""What the histograms tell apart: 1 µs to a minute, to 0.1 %."""

FIRST_NAME = "Anna"
WAS_REAL, IS_TILL = b'"source":"pos/', b'"source":"tills/'
"""A till's key speaks for its stores by this source."""


class Phase(Struct, frozen=True):
    """So many requests a second by kind, at random moments (a Poisson process), for so many seconds."""

    rates: dict[str, float]
    seconds: float


class Told(Struct, frozen=True):
    """What a process of tills measured in one phase.

    Attributes:
        latencies: by kind, an encoded histogram of microseconds.
        late: the same of how much later than due a request was sent, all kinds: this process's own part.
        failed: requests that had no answer, or a wrong one, by kind.
        why: the first failure in words; '' where all went well.
        cpu_s: this process's CPU time in the phase.
    """

    latencies: dict[str, str]
    late: str
    failed: dict[str, int]
    why: str
    cpu_s: float


class Due(NamedTuple):
    """A request: when, seconds from the beginning, of which kind, and with which body."""

    at: float
    kind: str
    body: bytes


class Wrong(Exception):
    """An answer, but not the right one."""


def bodies(seed: int) -> Iterator[bytes]:
    """Sales of a till, as tillstream's other load tests have them."""
    for raw in fixed_size(RECEIPTS_MAX, seed, LINES, MEMBERS, STORES):
        yield raw.replace(WAS_REAL, IS_TILL, 1)


class Tills:
    """All tills of this process, on one client."""

    def __init__(self, client: Client, seed: int) -> None:
        self.client = client
        self.random = random.Random(seed)
        self.sales, self.baskets = bodies(2 * seed), bodies(2 * seed + 1)
        self.calls: dict[str, Callable[[bytes], Awaitable[None]]] = {
            "identify": self.identify, "quote": self.quote, "receipt": self.receipt,
        }  # fmt: skip

    def prepare(self, phase: Phase) -> list[Due]:
        """All requests of a phase, in order."""
        due = [
            Due(at, kind, body)
            for kind, rate in phase.rates.items()
            for at, body in zip(self._moments(rate, phase.seconds), self._bodies(kind), strict=False)
        ]
        return sorted(due)

    async def run(self, due: list[Due], begins: float) -> Told:
        """Sends them when they are due; returns when the last one has its answer."""
        latencies = {kind: HdrHistogram(1, US_MAX, DIGITS) for kind in self.calls}
        late, failed, why = HdrHistogram(1, US_MAX, DIGITS), Counter[str](), [""]

        async def one(request: Due, moment: float) -> None:
            late.record_value(microseconds(time.monotonic() - moment))
            try:
                await self.calls[request.kind](request.body)
            except (Away, Refused, Wrong) as error:
                failed[request.kind] += 1
                why[0] = why[0] or f"{request.kind}: {error}"
            latencies[request.kind].record_value(microseconds(time.monotonic() - moment))

        running: set[asyncio.Task[None]] = set()
        await asyncio.sleep(max(0.0, begins - time.monotonic()))
        cpu = time.process_time()
        for request in due:
            moment = begins + request.at
            await asyncio.sleep(max(0.0, moment - time.monotonic()))
            task = asyncio.create_task(one(request, moment))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)
        spent = time.process_time() - cpu
        encoded = {kind: histogram.encode().decode() for kind, histogram in latencies.items() if histogram.total_count}
        return Told(encoded, late.encode().decode(), dict(failed), why[0], spent)

    async def identify(self, body: bytes) -> None:
        who: Identified = await self.client.identify("card", body.decode())
        if who.name != FIRST_NAME or not who.balances:
            raise Wrong(f"card {body.decode()} is {who.name}")

    async def quote(self, body: bytes) -> None:
        quoted: Quoted = await self.client.quote(body)
        if not quoted.earns or not quoted.entries:
            raise Wrong("a basket earns nothing")

    async def receipt(self, body: bytes) -> None:
        outcome: Outcome | Queued = await self.client.post(body)
        if isinstance(outcome, Queued) or outcome.outcome != "accepted" or not outcome.entries or not outcome.balances:
            raise Wrong(str(outcome)[:200])

    def _moments(self, rate: float, seconds: float) -> Iterator[float]:
        at = self.random.expovariate(rate) if rate else seconds
        while at < seconds:
            yield at
            at += self.random.expovariate(rate)

    def _bodies(self, kind: str) -> Iterator[bytes]:
        if kind == "receipt":
            return self.sales
        if kind == "quote":
            return map(basket_of, self.baskets)
        return (card_number(self.random.randrange(MEMBERS)).encode() for _ in range(RECEIPTS_MAX))


def basket_of(sale: bytes) -> bytes:
    """What is in a sale before it is paid."""
    data = orjson.loads(sale)["data"]
    del data["receipt_id"]
    return orjson.dumps(data)


def microseconds(seconds: float) -> int:
    return min(max(1, round(seconds * 1e6)), US_MAX)


async def serve(url: str, key: str, seed: int) -> None:
    """Phase after phase, until standard input ends."""
    read = asyncio.get_running_loop().run_in_executor
    async with Client(url, key, wait_ms=WAIT_MS, patience_s=0) as client:
        tills = Tills(client, seed)
        while line := await read(None, sys.stdin.readline):
            due = tills.prepare(msgspec.json.decode(line, type=Phase))
            spare_the_collector()
            print("ready", flush=True)
            told = await tills.run(due, float(await read(None, sys.stdin.readline)))
            print(msgspec.json.encode(told).decode(), flush=True)
            gc.unfreeze()


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(description="Tills of `python -m loadtest lane`; they are started by that command.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.url, arguments.key, arguments.seed))


if __name__ == "__main__":
    main()
