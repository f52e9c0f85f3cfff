"""States in Redis: written once a batch, fenced, fading; and what was forgotten stays forgotten. On Valkey, Redis 7.0 and a cluster."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.redis_servers import RedisServer, redis_server  # noqa: F401
from tests.test_state import client_of
from tillstream.sinks.features import MARK_S, PURCHASES, VISITORS_MAX, VISITS, FeatureStore, Kept, Trace
from tillstream.sinks.redis import RedisEmptied
from tillstream.sinks.state import Fenced

ODD = ("v-1", "{o2}", "a:b", "żółw 日本", "x" * 256)


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:  # noqa: F811
    redis_server.flush()
    return redis_server


def with_store(server: RedisServer, scenario: Callable[[FeatureStore], Awaitable[None]]) -> None:
    async def run() -> None:
        async with client_of(server) as client:
            await scenario(FeatureStore(client))

    asyncio.run(run())


def test_store_what_was_written_is_what_is_loaded_and_fades(server: RedisServer) -> None:
    async def scenario(store: FeatureStore) -> None:
        assert await store.load(VISITS, 3, ["v-1"]) == (-1, {})
        states = {name: Kept(f"state of {name}".encode() + b"\x00\xff", 500) for name in ODD}
        await store.apply(VISITS, 3, -1, 17, states)
        assert await store.load(VISITS, 3, [*ODD, "nobody"]) == (17, {name: kept.state for name, kept in states.items()})
        assert await store.standing(VISITS, 3) == 17
        assert await store.load(PURCHASES, 3, ODD) == (-1, {})
        assert 490 <= await store.client.ttl(VISITS.key(3, "v-1")) <= 500

    with_store(server, scenario)


def test_store_batch_from_another_offset_is_refused_and_changes_nothing(server: RedisServer) -> None:
    async def scenario(store: FeatureStore) -> None:
        await store.apply(VISITS, 3, -1, 17, {"v-1": Kept(b"first", 500)})
        with pytest.raises(Fenced) as refused:
            await store.apply(VISITS, 3, -1, 17, {"v-1": Kept(b"again", 500)})
        assert refused.value.offset == 17
        assert await store.load(VISITS, 3, ["v-1"]) == (17, {"v-1": b"first"})

    with_store(server, scenario)


def test_store_that_finds_redis_behind_what_it_saw_goes_no_further(server: RedisServer) -> None:
    async def scenario(store: FeatureStore) -> None:
        await store.apply(VISITS, 3, -1, 17, {})
        for behind in ("16", None):
            await store.client.delete(VISITS.meta(3))
            if behind is not None:
                await store.client.hset(VISITS.meta(3), "offset", behind)
            with pytest.raises(RedisEmptied, match="stood at 17"):
                await store.load(VISITS, 3, ["v-1"])
            with pytest.raises(RedisEmptied):
                await store.standing(VISITS, 3)
        assert await FeatureStore(store.client).standing(VISITS, 3) == -1

    with_store(server, scenario)


def test_store_batch_without_states_moves_the_offset(server: RedisServer) -> None:
    async def scenario(store: FeatureStore) -> None:
        await store.apply(PURCHASES, 0, -1, 5, {})
        assert await store.standing(PURCHASES, 0) == 5

    with_store(server, scenario)


def test_store_states_of_several_partitions_are_read_at_once(server: RedisServer) -> None:
    async def scenario(store: FeatureStore) -> None:
        for partition in range(3):
            await store.apply(PURCHASES, partition, -1, 1, {f"m{partition}": Kept(b"state", 500)})
        assert await store.read(PURCHASES, {"m0": 0, "m2": 2, "m3": 1}) == {"m0": b"state", "m2": b"state"}

    with_store(server, scenario)


def test_store_forgotten_member_has_no_state_and_a_batch_under_way_brings_none_back(server: RedisServer) -> None:
    async def scenario(store: FeatureStore) -> None:
        await store.note_visitors([Trace("m1", VISITS.key(3, "v-1"), 1)])
        await store.note_accounts([Trace("m1", PURCHASES.key(1, "h1"), 1)])
        for kind, partition, name in ((VISITS, 3, "v-1"), (VISITS, 4, "v-2"), (PURCHASES, 1, "h1"), (PURCHASES, 2, "m1")):
            await store.apply(kind, partition, -1, 1, {name: Kept(b"state", 500)})
        await store.forget({"m1": 2})
        for kind, partition, name in ((VISITS, 3, "v-1"), (PURCHASES, 1, "h1"), (PURCHASES, 2, "m1")):
            assert await store.load(kind, partition, [name]) == (1, {})
            await store.apply(kind, partition, 1, 2, {name: Kept(b"brought back", 500)})
            assert await store.load(kind, partition, [name]) == (2, {})
            assert 0 < await store.client.ttl(kind.key(partition, name)) <= MARK_S
            await store.client.delete(kind.key(partition, name))  # As time does.
            await store.apply(kind, partition, 2, 3, {name: Kept(b"anew", 500)})
            assert await store.load(kind, partition, [name]) == (3, {name: b"anew"})
        assert await store.load(VISITS, 4, ["v-2"]) == (1, {"v-2": b"state"})

    with_store(server, scenario)


def test_store_visitors_that_claim_one_member_are_noted_up_to_a_bound(server: RedisServer) -> None:
    async def scenario(store: FeatureStore) -> None:
        await store.note_visitors([Trace("m1", VISITS.key(0, "v-0"), 0)])
        await store.apply(VISITS, 0, -1, 1, {"v-0": Kept(b"old", 500)})
        beyond = await store.note_visitors(Trace("m1", VISITS.key(0, f"v-{n}"), n) for n in range(1, VISITORS_MAX + 50))
        assert beyond == {VISITS.key(0, f"v-{n}") for n in range(50)}
        await store.apply(VISITS, 0, 1, 2, {f"v-{VISITORS_MAX + 49}": Kept(b"new", 500)})
        assert (await store.load(VISITS, 0, ["v-0", f"v-{VISITORS_MAX + 49}"])).found == {f"v-{VISITORS_MAX + 49}": b"new"}
        await store.forget({"m1": 0})
        assert (await store.load(VISITS, 0, [f"v-{VISITORS_MAX + 49}"])).found == {}

    with_store(server, scenario)
