"""The view of vouchers on a real broker and Redis: fenced, rebuilt from the topic, brought up when Redis forgot, and the worker's agent."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest
from msgspec.structs import replace

from tests.pipeline_harness import Stage, stage, until
from tests.redis_servers import RedisServer, redis_server_fixture
from tests.voucher_events import HELD_S, A, B, claim, issued, revoked
from tillstream.kernels.vouchers import Owner, Vouchers
from tillstream.schemas.vouchers import VoucherEvent, encode_voucher
from tillstream.sinks.redis import CLUSTER_SCHEME, connect, load_library
from tillstream.sinks.replies import Replies
from tillstream.sinks.state import Fenced
from tillstream.sinks.vouchers import META, VoucherStore
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import VOUCHERS
from tillstream.streams.vouchers import VoucherView

T = TypeVar("T")
R1 = Owner("tills/PL-0001", "r1")

redis_server = redis_server_fixture()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("vouchers")) as there:
        yield there


def sent(here: Stage, *events: VoucherEvent | bytes) -> None:
    here.send((event if isinstance(event, bytes) else encode_voucher(event) for event in events), VOUCHERS, "k")


def viewed(here: Stage, work: Callable[[VoucherView], Awaitable[T]]) -> T:
    async def run() -> T:
        async with connect(here.config.redis) as client:
            await load_library(client, here.config.redis)
            return await work(VoucherView(VoucherStore(client), here.kafka, Replies(client)))

    return asyncio.run(run())


def codes_of(here: Stage, *digests: str) -> Vouchers:
    return viewed(here, lambda view: view.store.load(digests, []))


def test_view_is_written_once_from_where_it_stands(redis_server: RedisServer) -> None:
    url = redis_server.url.replace("redis://", CLUSTER_SCHEME, 1) if redis_server.cluster else redis_server.url

    async def run() -> None:
        async with connect(url) as client:
            await load_library(client, url)
            store = VoucherStore(client)
            one, two = Vouchers({}, {}), Vouchers({}, {})
            for vouchers in (one, two):
                vouchers.take(issued())
            await store.apply(one, -1, 4)
            with pytest.raises(Fenced):
                await store.apply(two, -1, 4)
            await store.note_whole(3)
            assert await store.view() == (4, False)
            await store.note_whole(4)
            shown = await store.shown(A)
            assert (shown.voucher, shown.batch, shown.view) == (one.codes[A], one.batches["spring/1"], (4, True))
            assert (await store.shown("c" * 32)).voucher is None
            assert [voucher async for voucher in store.codes()] == [one.codes[A], one.codes[B]]
            loaded = await store.load([B, A, "c" * 32], [])
            assert (loaded.codes, loaded.batches) == (one.codes, one.batches)

    redis_server.flush()
    asyncio.run(run())


def test_worker_takes_the_topic_and_a_view_that_was_emptied_comes_back_equal(here: Stage) -> None:
    with here.worker() as worker:
        until(lambda: viewed(here, lambda view: view.store.view()).whole, "an empty topic is a whole view", 60, worker)
        sent(here, issued(), b"nonsense", claim("reserve"), claim("reserve", "r2", 1), claim("redeem", "r2", HELD_S + 1, digest=B))
        until(lambda: B in codes_of(here, B).codes and codes_of(here, B).codes[B].redeemed_at is not None, "redeemed", 30, worker)
        known = codes_of(here, A, B)
        assert known.codes[A].owner == R1
        with here.client() as client:
            client.flushall()
        assert not viewed(here, lambda view: view.store.view()).whole
        sent(here, claim("redeem", seconds=5))
        until(lambda: A in codes_of(here, A).codes and codes_of(here, A).codes[A].redeemed_at is not None, "taken after a gap", 60)
        again = codes_of(here, A, B)
        assert again.codes[B] == known.codes[B]
        assert again.batches == known.batches
        assert again.codes[A] == replace(known.codes[A], until=None, redeemed_at=claim("redeem", seconds=5).time)
        assert viewed(here, lambda view: view.store.view()).whole


def test_view_of_an_older_dump_is_brought_up_and_nothing_is_redeemed_twice(here: Stage) -> None:
    viewed(here, lambda view: view.catch_up())
    batch = issued(A.replace("a", "c"), B.replace("b", "d"), series="summer", fingerprint="1" * 32)
    c, d = batch.data.digests
    sent(here, batch, claim("redeem", digest=c))
    before = viewed(here, lambda view: view.store.view())
    viewed(here, lambda view: view.catch_up())
    old = viewed(here, lambda view: view.store.load([c], []))
    assert old.codes[c].redeemed_at is not None
    with here.client() as client:  # As of before the redemption; whole, as a dump would say.
        client.hset(META, "offset", before.offset)
        client.hdel("{vouchers}:codes", c, d)
    sent(here, claim("redeem", "r9", 7, digest=c), claim("reserve", "r9", 7, digest=d))

    async def last_only(view: VoucherView) -> None:
        """What a worker would get that had gone on where it was."""
        await view.take(list(read_topic(here.kafka, VOUCHERS, 0, 0))[-2:])

    viewed(here, last_only)
    now = codes_of(here, c, d)
    assert now.codes[c] == old.codes[c]
    assert now.codes[d].owner == Owner("tills/PL-0001", "r9")


def test_batch_taken_again_changes_nothing(here: Stage) -> None:
    async def twice(view: VoucherView) -> tuple[Vouchers, Vouchers]:
        messages = list(read_topic(here.kafka, VOUCHERS, 0, 0))
        await view.take(messages)
        once = await view.store.load([A, B], [])
        await view.take(messages)
        return once, await view.store.load([A, B], [])

    sent(here, issued(), revoked(digest=B))
    once, again = viewed(here, twice)
    assert (once.codes, once.batches) == (again.codes, again.batches)
