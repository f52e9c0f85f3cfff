"""Budgets on real servers: many at once overspend nothing, cut nothing too early, and lose nothing by a crash."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from tests.redis_servers import RedisServer, redis_server_fixture
from tillstream.kernels.room import Table
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.programs import Program
from tillstream.sinks import budgets
from tillstream.sinks.budgets import BUDGETS, TURN, BudgetStore, Lease
from tillstream.sinks.redis import CLUSTER_SCHEME, Redis, connect, load_library
from tillstream.sinks.state import keys

redis_server = redis_server_fixture()

PROGRAM = """
program = { id = "b", currency = "PLN", time_zone = "UTC" }
units = { points = {} }
rules = [
    { id = "small", award = { fixed = 7 }, cap = { budget = 1000 } },
    { id = "large", award = { fixed = 500 }, cap = { budget = 1_000_000 } },
    { id = "free", award = { fixed = 1 } },
]
"""


LIMITS = {"small": 1000, "large": 1_000_000}


def program() -> Program:
    return parse_program(PROGRAM).program


def on(server: RedisServer, work: Callable[[Redis], Awaitable[None]]) -> None:
    """Runs `work` with a client of an emptied server that has the library."""

    async def run() -> None:
        server.flush()
        url = CLUSTER_SCHEME + server.url.removeprefix("redis://") if server.cluster else server.url
        client = connect(url)
        try:
            await load_library(client, url)
            await work(client)
        finally:
            await client.aclose()

    asyncio.run(run())


async def judged(store: BudgetStore, partition: int, receipts: int, pause: float, small: list[int] | None = None) -> Counter[str]:
    """A batch, as `accrue` judges it; what each rule gave. The awards of `small` go to that list, in the order of turns."""
    rules = {rule.id: rule for rule in program().rules}
    for whole in (False, True, True, True):
        lease = await store.lease(partition, LIMITS, whole=whole)
        await asyncio.sleep(pause)
        given: Counter[str] = Counter()
        awards = []
        for _ in range(receipts):
            for name, award in (("small", 7), ("large", 500)):
                points = min(award, lease.left(rules[name]))
                lease.moved(rules[name], points)
                given[name] += points
                awards += [points] if name == "small" else []
        if small is not None and not lease.short:
            small += awards
        if await store.settle(lease, used=not lease.short) and not lease.short:
            return given
    raise AssertionError("a whole lease is never short")


def test_many_workers_spend_a_budget_to_its_last_point_and_not_one_more(redis_server: RedisServer) -> None:
    async def work(client: Redis) -> None:
        random, small = Random(4), list[int]()
        stores = [BudgetStore(client) for _ in range(4)]

        async def worker(number: int) -> Counter[str]:
            given: Counter[str] = Counter()
            for _ in range(30):
                given += await judged(stores[number % 4], number, random.randint(1, 40), random.random() / 1000, small)
            return given

        given = sum(await asyncio.gather(*(worker(number) for number in range(8))), Counter())
        assert given == {"small": 1000, "large": 1_000_000}
        assert small[:144] == [7] * 142 + [6, 0]  # Nothing is cut while there are points for it.
        assert not any(small[144:])
        there = {name.decode(): int(points) for name, points in (await client.hgetall(BUDGETS)).items()}
        assert {name: points for name, points in there.items() if "|" not in name} == given
        assert sum(points for name, points in there.items() if name.startswith("small|")) == 1000
        assert await client.get(TURN) is None

    on(redis_server, work)


def test_award_is_cut_only_where_nothing_is_left(redis_server: RedisServer) -> None:
    async def work(client: Redis) -> None:
        store = BudgetStore(client)
        alone = Table()
        rule = program().rules[0]
        for _ in range(200):
            given = (await judged(store, 3, 1, 0))["small"]
            expected = min(7, alone.left(rule))
            alone.moved(rule, expected)
            assert given == expected

    on(redis_server, work)


def test_lease_of_a_dead_worker_comes_back_when_its_partition_is_assigned(redis_server: RedisServer) -> None:
    async def work(client: Redis) -> None:
        store = BudgetStore(client)
        await judged(store, 5, 10, 0)
        await client.hset(keys(5)[7], mapping={"small": 70, "large": 5000})  # What the ledger's postings say, as `apply` counts it.
        await store.lease(5, LIMITS, whole=True)  # And dies.
        await client.delete(TURN)
        await store.restore(5)
        assert (await store.lease(6, LIMITS, whole=True)).points == {"small": 930, "large": 995_000}

    on(redis_server, work)


def test_turn_whose_time_is_up_is_void_and_its_points_go_back(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(client: Redis) -> None:
        monkeypatch.setattr(budgets, "TURN_MS", 50)
        store, rule = BudgetStore(client), program().rules[0]
        slow = await store.lease(1, LIMITS)
        slow.moved(rule, 7)
        other = await store.lease(2, LIMITS)  # Waits until the first one's time is up.
        assert other.points == LIMITS
        assert not await store.settle(slow)
        other.moved(rule, 14)
        assert await store.settle(other)
        assert [int(points) for points in await client.hmget(BUDGETS, "small", "large")] == [14, 0]

    on(redis_server, work)


def test_lease_that_was_not_used_leaves_the_budget_as_it_was(redis_server: RedisServer) -> None:
    async def work(client: Redis) -> None:
        store = BudgetStore(client)
        lease = await store.lease(1, LIMITS)
        lease.moved(program().rules[0], 100)
        await store.settle(lease, used=False)
        assert (await store.lease(1, LIMITS, whole=True)).points == {"small": 1000, "large": 1_000_000}

    on(redis_server, work)


@pytest.mark.parametrize(("points", "used", "whole", "short"), [(100, 50, False, False), (100, 51, False, True), (100, 100, True, False)])
def test_lease_is_short_once_more_than_half_of_a_part_is_used(points: int, used: int, whole: bool, short: bool) -> None:
    lease = Lease(0, "t", {"small": points}, whole=whole)
    lease.moved(program().rules[0], used)
    assert lease.short is short
