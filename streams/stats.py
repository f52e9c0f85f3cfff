"""What a worker has done since it started: counters and latencies, published to Redis for `demo`, `verify` and operators."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from math import exp, log
from operator import attrgetter

import msgspec
from confluent_kafka import Message
from msgspec import Struct

from tillstream.kernels.routed import Outcome
from tillstream.sinks.redis import Redis

STATS_PREFIX = "tillstream:stats:"
STATS_KEPT_S = 60
"""A dead worker's figures fade after this."""

ALIVE = "tillstream:alive:points"
"""There while a worker that gives points runs; one key, since looking for workers' figures would go through all keys of Redis."""

ALIVE_S = 10
"""A dead worker is taken for alive this long: as long as Kafka waits for it; a live one says so twenty times."""

CLOCKED_MAX = 100
"""Latencies taken of a batch: of a larger one those of so many records, evenly chosen, stand for all."""

BUCKETS_PER_E = 20
"""Latency buckets per factor e: a percentile read from them is at most 5 % off."""


class WorkerStats(Struct):
    """Counters since the start: outcomes by status, ledger records, and latencies in buckets (bucket -> receipts).

    `offers`: by offer id, how many decisions were made, by group, and how many were not, by the first reason against them.
    `clicks`: page views that were observed, left since their visitor floods (`flooding`), or are none (`malformed`).
    An event that had to wait for its sale counts as `waiting` when it comes and as `taken_up` when the sale has come.
    """

    outcomes: dict[str, int] = {}
    records: int = 0
    latency_buckets: dict[int, int] = {}
    offers: dict[str, dict[str, int]] = {}
    clicks: dict[str, int] = {}


class Stats:
    """Counts outcomes and the time from a till's record to its points in Redis."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.records = 0
        self.buckets: Counter[int] = Counter()
        self.offers: dict[str, Counter[str]] = defaultdict(Counter)
        self.clicks: Counter[str] = Counter()

    def count_offer(self, offer_id: str, what: str) -> None:
        """Adds one decision on an offer, or one that was not made."""
        self.offers[offer_id][what] += 1

    def count_clicks(self, **counts: int) -> None:
        """Adds what became of the page views of one batch."""
        self.clicks.update(counts)

    def figures(self) -> WorkerStats:
        """All of it."""
        offers = {name: dict(counts) for name, counts in self.offers.items()}
        return WorkerStats(dict(self.outcomes), self.records, dict(self.buckets), offers, dict(self.clicks))

    def count(self, outcomes: Sequence[Outcome]) -> None:
        """Adds what became of one batch."""
        on_time = [outcome.status for outcome in outcomes if not outcome.waited]
        self.outcomes.update(on_time)
        if len(on_time) < len(outcomes):
            self.outcomes["taken_up"] += len(outcomes) - len(on_time)
        self.records += sum(map(len, map(attrgetter("records"), outcomes)))

    def clock(self, now_ms: int, messages: Sequence[Message]) -> None:
        """Adds one batch's latencies, from a till's record to Redis, in whole milliseconds."""
        every = len(messages) // CLOCKED_MAX + 1
        for latency_ms, receipts in Counter(now_ms - message.timestamp()[1] for message in messages[::every]).items():
            self.buckets[bucket_of(latency_ms)] += every * receipts

    async def publish(self, client: Redis, worker: str) -> None:
        """Writes the figures to Redis, where they stay for `STATS_KEPT_S` seconds."""
        await client.set(STATS_PREFIX + worker, msgspec.json.encode(self.figures()), ex=STATS_KEPT_S)


async def tell_alive(client: Redis) -> None:
    """A worker that gives points runs."""
    await client.set(ALIVE, b"", ex=ALIVE_S)


async def is_one_alive(client: Redis) -> bool:
    """Whether a worker that gives points ran within the last `ALIVE_S` seconds."""
    return bool(await client.exists(ALIVE))


def bucket_of(latency_ms: float) -> int:
    return round(BUCKETS_PER_E * log(max(latency_ms, 1)))


def percentile_ms(buckets: dict[int, int], share: float) -> float:
    """The latency that `share` of the receipts stay within, milliseconds; 0 without receipts."""
    wanted, seen = share * sum(buckets.values()), 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= wanted:
            return exp(bucket / BUCKETS_PER_E)
    return 0.0


def merged(workers: Iterable[WorkerStats]) -> WorkerStats:
    """The figures of several workers as one."""
    total = Stats()
    for worker in workers:
        total.outcomes.update(worker.outcomes)
        total.records += worker.records
        total.buckets.update(worker.latency_buckets)
        total.clicks.update(worker.clicks)
        for name, counts in worker.offers.items():
            total.offers[name].update(counts)
    return total.figures()


async def read_stats(client: Redis) -> WorkerStats:
    """The figures of all workers that have been alive within the last minute."""
    found = [await client.get(key) async for key in client.scan_iter(match=STATS_PREFIX + "*")]
    return merged(msgspec.json.decode(raw, type=WorkerStats) for raw in found if raw)
