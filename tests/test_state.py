"""The state of a partition in Redis: what was applied is what is loaded, on Valkey, on Redis 7.0 and on a cluster; and the fence holds."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

import orjson
import pytest

from tests.pipeline_harness import history, program
from tests.redis_servers import RedisServer, redis_server  # noqa: F401
from tillstream.kernels.crediting import credit
from tillstream.kernels.holdings import Holding
from tillstream.kernels.identities import Seal
from tillstream.kernels.keys import sale_key_of
from tillstream.kernels.posting import Poster
from tillstream.kernels.routed import Routed
from tillstream.kernels.snapshot import Returned, Snapshot
from tillstream.schemas.events import VoidEvent, decode
from tillstream.schemas.ledger import Posting, decode_record
from tillstream.sinks.redis import CLUSTER_SCHEME, LIBRARY_VERSION, LibraryMismatch, RedisUnreachable, connect, load_library, primaries
from tillstream.sinks.reviews import ReviewStore
from tillstream.sinks.state import DAY_KEYS_MAX, Fenced, Standing, StateStore, keys

EMPTY = Standing(-1, -1, None)

ODD_IDS = (
    *("plain", "", " ", "{p3}", "{}", "}{", "a:b:c", "p3:accounts", "*", "[a-z]?", "a\nb\r\nc", "nul\0l", "\x7f\x01", "żółw", "日本語"),
    *("🧀" * 64, 'quo"te\\', "'", "\u200b", "x" * 256),
)


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:  # noqa: F811
    """A server without a key or a function."""
    redis_server.flush()
    return redis_server


def url_of(server: RedisServer) -> str:
    return CLUSTER_SCHEME + server.url.removeprefix("redis://") if server.cluster else server.url


@asynccontextmanager
async def client_of(server: RedisServer) -> AsyncIterator[Any]:
    """A client of ours, with the library loaded."""
    client = connect(url_of(server))
    try:
        await load_library(client, url_of(server))
        yield client
    finally:
        await client.aclose()


def with_store(server: RedisServer, scenario: Callable[[StateStore], Awaitable[None]]) -> None:
    async def run() -> None:
        async with client_of(server) as client:
            await scenario(StateStore(client))

    asyncio.run(run())


def routed(events: Sequence[dict[str, Any]], first: int = 0) -> list[Routed]:
    """Events as `identify` would route them, one offset after another; a return goes where its sale went."""
    found = []
    for offset, raw in enumerate(map(orjson.dumps, events), first):
        event = decode(raw)
        member = None if isinstance(event, VoidEvent) else event.data.member  # type: ignore[union-attr]
        found.append(Routed(event, None if member is None else Seal(b"key").account_of(member), offset, raw))  # type: ignore[arg-type]
    return found


def dumped(server: RedisServer) -> dict[str, Any]:
    """Every key of the server with its value."""
    readers = {b"hash": "hgetall", b"set": "smembers", b"zset": "zrange", b"string": "get"}
    with server.client() as client:
        found = {}
        for key in client.scan_iter():
            kind = client.type(key)
            if kind == b"zset":
                value = client.zrange(key, 0, -1, withscores=True)
            else:
                value = client.lrange(key, 0, -1) if kind == b"list" else getattr(client, readers[kind])(key)
            found[key.decode()] = value
        return found


async def everything(store: StateStore, partition: int) -> Snapshot:
    """The whole partition as one snapshot."""
    names = [[name.decode() for name in await store.client.hkeys(key)] for key in keys(partition)[1:5]]
    return (await store.load_keys(partition, *names)).snapshot


def assert_same(found: Snapshot, wanted: Snapshot) -> None:
    """Two snapshots hold the same; accounts that were only looked at hold nothing."""
    assert found.accounts == {name: units for name, units in wanted.accounts.items() if units}
    assert found.postings == wanted.postings
    assert found.returned == wanted.returned
    assert found.waiting == {name: events for name, events in wanted.waiting.items() if events}
    assert found.as_of == wanted.as_of


@pytest.mark.parametrize("rows", [1, 7, 200])
def test_history_in_batches_through_redis_equals_the_snapshot_in_memory(server: RedisServer, rows: int) -> None:
    events = routed(history(60 if rows == 1 else 250, seed=rows))
    poster, memory = Poster(program()), Snapshot()
    in_memory = poster.post(events, memory)

    async def scenario(store: StateStore) -> None:
        outcomes = []
        for first in range(0, len(events), rows):
            batch = [at_sales_account(item, memory) for item in events[first : first + rows]]
            snapshot, standing = await store.load(3, batch)
            outcomes += poster.post(batch, snapshot)
            await store.apply(3, snapshot, standing, Standing(batch[-1].offset, len(outcomes), None))
        assert [(o.status, list(o.records)) for o in outcomes] == [(o.status, list(o.records)) for o in in_memory]
        assert_same(await everything(store, 3), memory)
        assert await store.standing(3) == Standing(events[-1].offset, len(outcomes), None)
        assert await store.standing(4) == EMPTY

    assert {outcome.status for outcome in in_memory} >= {"accepted", "duplicate", "waiting"}
    with_store(server, scenario)


def at_sales_account(item: Routed, memory: Snapshot) -> Routed:
    """As `identify` routes it: whoever brings a return, it goes to the account of its sale."""
    sale = decode_record(memory.postings[sale_key_of(item.event)])  # type: ignore[arg-type]
    assert isinstance(sale, Posting)
    return Routed(item.event, sale.account_id, item.offset, item.raw)


def wide(accounts: int) -> Snapshot:
    """A snapshot in which many accounts and one waiting event are new."""
    snapshot = Snapshot("2026-03-02")
    for number in range(accounts):
        name = f"m{number}"
        snapshot.accounts[name] = {"points": Holding(credits={"2026-04-01": number}, balance=number)}
        snapshot.changed_accounts.add(name)
    snapshot.new_expiries["2026-04-01"] = set(snapshot.accounts)
    snapshot.waiting["sale"] = {"return": b'{"x":"\xc5\xbc"}'}
    snapshot.changed_waiting.add("sale")
    return snapshot


def test_stale_standing_is_fenced_and_changes_nothing(server: RedisServer) -> None:
    async def scenario(store: StateStore) -> None:
        await store.apply(1, wide(3), EMPTY, Standing(10, 5, "2026-03-02"))
        before = dumped(server)
        for stale in (EMPTY, Standing(9, 5, "2026-03-02"), Standing(11, 5, None), Standing(100, -1, None)):
            with pytest.raises(Fenced) as fenced:
                await store.apply(1, wide(20), stale, Standing(200, 9, "2026-05-01"))
            assert fenced.value.offset == 10
            await store.forget_expiries(1, ["20260401"], stale.offset)
            assert dumped(server) == before
        await store.apply(1, Snapshot(), Standing(10, 5, None), Standing(17, 5, None))
        assert await store.standing(1) == Standing(17, 5, None)

    with_store(server, scenario)


def test_offset_zero_is_told_from_none(server: RedisServer) -> None:
    async def scenario(store: StateStore) -> None:
        await store.apply(1, Snapshot(), EMPTY, Standing(0, 0, None))
        assert await store.standing(1) == Standing(0, 0, None)
        with pytest.raises(Fenced):
            await store.apply(1, Snapshot(), EMPTY, Standing(0, 0, None))

    with_store(server, scenario)


def test_more_than_twenty_thousand_arguments_arrive_whole(server: RedisServer) -> None:
    accounts = 5_000  # Eight arguments each, and each list is longer than what Lua's stack takes at once.
    snapshot = wide(accounts)
    for number in range(accounts):
        name = f"key{number}"
        snapshot.postings[name], snapshot.new_postings[name] = b"record-%d" % number, f"2026-03-{number % 3 + 1:02d}"
        snapshot.returned[name] = Returned({1: number}, {1: 1000}, {0: 7}, day="2026-03-01")
        snapshot.waiting[name] = {"r": b"{}"}
    snapshot.changed_returned = set(snapshot.returned)
    snapshot.changed_waiting = set(snapshot.waiting)

    async def scenario(store: StateStore) -> None:
        await store.apply(0, snapshot, EMPTY, Standing(1, 1, "2026-03-02"))
        assert_same(await everything(store, 0), snapshot)
        days = dumped(server)
        assert sorted(days["{p0}:days"]) == [(b"2026-03-%02d" % day, 20260300.0 + day) for day in (1, 2, 3)]
        # The day of a posting, and the day on which something last came back of it.
        texts = [text for day in (1, 2, 3) for text in days[f"{{p0}}:day:2026-03-0{day}"]]
        assert sum(len(text.splitlines()) for text in texts) == 2 * accounts
        assert max(len(text.splitlines()) for text in texts) == DAY_KEYS_MAX
        dates, due = await store.due_accounts(0, "2026-04-02")
        assert (dates, len(due)) == (["2026-04-01"], accounts)

    with_store(server, scenario)


def test_odd_account_ids_and_their_indexes_come_back_as_they_were(server: RedisServer) -> None:
    async def scenario(store: StateStore) -> None:
        snapshot = Snapshot()
        for number, name in enumerate(ODD_IDS):
            snapshot.accounts[name] = {"pünkte {p1}": Holding({"2026-05-01": number, "": 1}, {"2026-04-01": 1}, {}, number)}
            snapshot.changed_accounts.add(name)
            snapshot.waiting[name] = {name: f'{{"id":"{number}"}}'.encode()}
            snapshot.changed_waiting.add(name)
        snapshot.new_expiries["2026-05-01"] = set(ODD_IDS)
        await store.apply(2, snapshot, EMPTY, Standing(4, 4, None))
        loaded = (await store.load_keys(2, ODD_IDS, ODD_IDS, ODD_IDS, ODD_IDS)).snapshot
        assert_same(loaded, snapshot)
        assert (await store.due_accounts(2, "2026-05-02"))[1] == sorted(ODD_IDS)
        assert {key.split("}")[0] for key in dumped(server)} == {"{p2"}

    with_store(server, scenario)


def test_expiry_index_knows_what_is_due_and_forgets_what_was_dealt_with(server: RedisServer) -> None:
    def earned(snapshot: Snapshot, name: str, *dates: str) -> Snapshot:
        for date in dates:
            credit(snapshot, name, [("points", 5)], {"points": date or None})
        return snapshot

    async def scenario(store: StateStore) -> None:
        first = earned(earned(Snapshot(), "a", "2026-04-01", ""), "b", "2026-04-01", "2026-12-31")
        await store.apply(1, first, EMPTY, Standing(1, 1, None))
        snapshot, standing = await store.load_keys(1, ["a"], (), (), ())
        await store.apply(1, earned(snapshot, "a", "2027-01-01"), standing, Standing(2, 2, None))
        assert await store.due_accounts(1, "2026-04-01") == ([], [])
        assert await store.due_accounts(1, "2026-04-02") == (["2026-04-01"], ["a", "b"])
        assert await store.due_accounts(1, "2027-01-02") == (["2026-04-01", "2026-12-31", "2027-01-01"], ["a", "b"])
        await store.forget_expiries(1, [], 2)
        await store.forget_expiries(1, ["2026-04-01"], 2)
        assert await store.due_accounts(1, "2027-01-01") == (["2026-12-31"], ["b"])
        assert "{p1}:expiry:2026-04-01" not in dumped(server)

    with_store(server, scenario)


def test_waiting_events_are_added_and_removed(server: RedisServer) -> None:
    async def scenario(store: StateStore) -> None:
        snapshot = Snapshot()
        snapshot.waiting = {"s1": {"r1": b"{}", "r2": b"[]"}, "s2": {"r3": b"{}"}}
        snapshot.changed_waiting = {"s1", "s2"}
        await store.apply(1, snapshot, EMPTY, Standing(1, 1, None))
        loaded, standing = await store.load_keys(1, (), (), (), ["s1", "s2", "s3"])
        assert loaded.waiting == snapshot.waiting
        del loaded.waiting["s1"]
        loaded.changed_waiting.add("s1")
        await store.apply(1, loaded, standing, Standing(2, 2, None))
        assert (await store.load_keys(1, (), (), (), ["s1", "s2"])).snapshot.waiting == {"s2": {"r3": b"{}"}}

    with_store(server, scenario)


def test_library_is_loaded_once_on_every_primary_and_a_newer_one_is_refused(server: RedisServer) -> None:
    code = files("tillstream.sinks").joinpath("state.lua").read_text()
    line = f"local function version() return {LIBRARY_VERSION} end"
    assert line in code

    async def put(client: Any, version: int) -> None:
        for node in await primaries(client):
            newer = code.replace(line, line.replace(str(LIBRARY_VERSION), str(version)))
            await client.execute_command("FUNCTION", "LOAD", "REPLACE", newer, **node)

    async def scenario() -> None:
        async with client_of(server) as client:
            nodes = await primaries(client)
            assert len(nodes) == len(server.servers)
            await load_library(client, url_of(server))
            for version in (LIBRARY_VERSION - 1, LIBRARY_VERSION):
                await put(client, version)
                await load_library(client, url_of(server))
                found = [await client.execute_command("FCALL_RO", "tillstream_version", 0, **node) for node in nodes]
                assert found == [LIBRARY_VERSION] * len(nodes)
            await put(client, LIBRARY_VERSION + 1)
            with pytest.raises(LibraryMismatch, match="upgrade"):
                await load_library(client, url_of(server))

    asyncio.run(scenario())


def test_nobody_at_the_address_is_said_so() -> None:
    async def scenario(url: str) -> None:
        client = connect(url)
        try:
            with pytest.raises(RedisUnreachable, match=r"127\.0\.0\.1:1"):
                await load_library(client, url)
        finally:
            await client.aclose()

    for url in ("redis://127.0.0.1:1/0", CLUSTER_SCHEME + "127.0.0.1:1/0"):
        asyncio.run(scenario(url))


def test_accounts_to_review_stay_taken_until_the_tick_is_done(server: RedisServer) -> None:
    async def scenario(store: StateStore) -> None:
        reviews = ReviewStore(store.client)
        await reviews.note({})
        await reviews.note({0: ["a", "żółw"], 3: ["c"]})
        assert await reviews.take(0) == {"a", "żółw"}
        await reviews.note({0: ["b", "a"]})
        assert await reviews.noted(0) == {"a", "b", "żółw"}
        assert await reviews.take(0) == {"a", "b", "żółw"}, "a tick that died leaves what it had taken"
        await reviews.note({0: ["a"]})
        await reviews.done(0)
        assert (await reviews.take(0), await reviews.take(3), await reviews.take(1)) == ({"a"}, {"c"}, set())

    with_store(server, scenario)
