"""`verify` of offers and vouchers, on a real broker and Redis: what Redis lost or made up is found, what was swept is not missed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.json import encode
from msgspec.structs import replace

from tests.pipeline_harness import Stage, stage
from tests.test_erasure_race import Room, looked
from tests.test_observe import envelope
from tests.test_offer_kills import OFFERS, enrolled
from tests.voucher_events import ENDS, A, B, claim, issued
from tillstream.kernels.vouchers import SWEPT_AFTER
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.publishing import published
from tillstream.schemas.vouchers import VoucherEvent, encode_voucher
from tillstream.sinks.offers import BUDGETS, member_keys
from tillstream.sinks.redis import connect, load_library
from tillstream.sinks.replies import Replies
from tillstream.sinks.vouchers import CODES, VoucherStore
from tillstream.sinks.writer import Writer
from tillstream.streams.programs import publish
from tillstream.streams.topics import VOUCHERS
from tillstream.streams.vouchers import VoucherView
from tillstream.verify_offers import verify_offers
from tillstream.verify_vouchers import verify_vouchers


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("verify")) as there:
        publish(there.kafka, [published(parse_program(OFFERS), OFFERS, datetime.now(UTC))])
        yield there


def with_room(here: Stage, work: Callable[[Room], Awaitable[None]]) -> None:
    async def run() -> None:
        client, writer = connect(here.config.redis), Writer(here.kafka)
        await load_library(client, here.config.redis)
        await writer.start()
        try:
            await work(Room(here, client, client, writer))
        finally:
            await writer.stop()
            await client.aclose()

    asyncio.run(run())


def test_verify_finds_decisions_and_budgets_that_redis_has_not(here: Stage) -> None:
    async def work(room: Room) -> None:
        async def checks() -> list[tuple[str, str, int, int]]:
            found = await verify_offers(here.kafka, room.client)
            assert found.decisions == 3
            return [(finding.check, finding.where.partition(" ")[0], finding.expected, finding.found) for finding in found.findings]

        now = datetime.now(UTC)
        for member in ("v1", "v2", "v3"):
            await room.note(enrolled(member, now), forgotten=False)
            await room.observe.observe(*looked(here, member, 3, f"browser of {member}"))
        assert await checks() == []
        await room.client.hincrby(BUDGETS, "scarce", -1)
        await room.client.delete(member_keys("v1")[0])
        assert await checks() == [("a decision in Redis", "v1", 1, 0), ("an offer's budget in Redis", "scarce", 3, 2)]
        await room.client.hincrby(BUDGETS, "scarce", 2)  # One more than was told: a worker died with it.
        erasure = envelope("member.erased", "erase v1", now + timedelta(minutes=1), "crm", {"member_id": "v1"})
        await room.note(erasure, forgotten=True)
        assert await checks() == []

    with_room(here, work)


def test_verify_finds_vouchers_that_are_not_what_the_topic_makes_of_them_and_misses_none_that_were_swept(here: Stage) -> None:
    old = "c" * 32
    over = ENDS - SWEPT_AFTER - timedelta(days=400)
    events: list[VoucherEvent] = [
        issued(), issued(old, batch="old", valid_until=over, codes=1), claim("redeem"), claim("redeem", digest=old),
    ]  # fmt: skip
    here.send([encode_voucher(event) for event in events], VOUCHERS, "k")

    async def work(room: Room) -> None:
        async def checks() -> tuple[int | None, list[tuple[str, int, int]]]:
            found = await verify_vouchers(here.kafka, room.client)
            return found.codes, [(finding.where[:1], finding.expected, finding.found) for finding in found.findings]

        store = VoucherStore(room.client)
        view = VoucherView(store, here.kafka, Replies(room.client))
        assert await checks() == (None, [])
        await view.catch_up()
        assert await checks() == (3, [])
        await view.sweep(over + SWEPT_AFTER)
        assert (await store.load([A, B, old], [])).codes.keys() == {A, B}
        assert (await store.batches()).keys() == {"spring/1", "spring/old"}
        assert await checks() == (2, [])
        here.send([encode_voucher(claim("release", "r1", 5, digest=old, returned_by="v"))], VOUCHERS, "k")
        await view.catch_up()
        assert await checks() == (2, [])
        shown = (await store.load([A, B], [])).codes
        await room.client.hset(CODES, A, encode(replace(shown[A], redeemed_at=None)))
        await room.client.hset(CODES, "d" * 32, encode(shown[B]))
        await room.client.hdel(CODES, B)
        assert await checks() == (2, [("a", 1, 1), ("b", 1, 0), ("d", 0, 1)])

    with_room(here, work)
