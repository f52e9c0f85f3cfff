"""Carts that were left lead to an offer, once, unless somebody bought meanwhile; on a real Kafka and Redis."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from tests.test_carts import item
from tests.test_decide import AT, PARTITIONS, Room, Servers, own, servers, within
from tests.test_program_offers import offer, program
from tillstream.kernels.instants import instant_ms
from tillstream.sinks.carts import CartStore, due_key
from tillstream.sinks.directory import Directory
from tillstream.sinks.features import CARTS, VISITS, FeatureStore
from tillstream.sinks.offer_view import OfferView
from tillstream.streams.abandon import SETTLE_MS, Abandon
from tillstream.streams.observe import Observe
from tillstream.streams.persons import Persons
from tillstream.streams.topics import CLICKSTREAM

__all__ = ["servers"]

TEXT = program(offer(trigger='trigger = { on = "cart_abandoned", category = ["dairy/**"], minutes = 30 }'))
MINUTE = timedelta(minutes=1)


class Shop:
    """Page views by Kafka through `observe`, and the timer's looks, at times that a test says."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.carts = CartStore(room.store.client)
        self.began_ms = instant_ms(AT)
        self.restart()
        self.consumer = Consumer({**room.kafka, "group.id": "shop", "enable.auto.commit": False})
        self.consumer.assign([TopicPartition(CLICKSTREAM, 0, self.consumer.get_watermark_offsets(TopicPartition(CLICKSTREAM, 0), 10)[1])])
        self.producer = Producer(room.kafka)

    def restart(self) -> None:
        """A new worker, that knows what Redis does."""
        self.store, persons = FeatureStore(self.room.store.client), Persons(self.room.registry)
        self.abandon = Abandon(self.store, self.carts, persons, PARTITIONS, self.room.decider)
        directory, stats = Directory(self.store.client), self.room.stats
        self.observe = Observe(self.store, directory, PARTITIONS, 120, stats, self.room.decider, self.abandon)

    async def browse(
        self, kind: str, name: str, minute: float, *items: dict[str, Any], member: str | None = "m1", visitor: str = "v1"
    ) -> None:
        """A page view so many minutes after noon."""
        at = AT + minute * MINUTE
        page = {"visitor_id": visitor, "session_id": "s", "page_location": "/", "items": list(items)}
        if member is not None:
            page["member"] = {"scheme": "member", "value": member}
        event = {"specversion": "1.0", "type": f"web.{kind}", "id": name, "source": "shop", "time": at.isoformat(), "data": page}
        self.producer.produce(CLICKSTREAM, json.dumps(event).encode(), partition=0)
        self.producer.flush()
        await self.observe.observe(0, [await asyncio.to_thread(self.next)])
        self.abandon.not_before.clear()  # The test's records are no backlog.

    def next(self) -> Message:
        while (message := self.consumer.poll(5)) is None or message.error():
            pass
        return message

    async def look(self, minute: float) -> None:
        await self.abandon.look([0, 1], instant_ms(AT + minute * MINUTE))

    def close(self) -> None:
        self.consumer.close()


def shopping(servers: Servers, work: Callable[[Shop, Room], Awaitable[None]], text: str = TEXT) -> None:
    async def run(room: Room) -> None:
        await room.enrol("m1")
        shop = Shop(room)
        try:
            await work(shop, room)
        finally:
            shop.close()

    within(servers, text, run)


def test_cart_left_for_its_time_leads_to_one_offer_also_when_it_is_looked_at_again(servers: Servers) -> None:
    async def work(shop: Shop, room: Room) -> None:
        await shop.browse("add_to_cart", "e-1", 0, item("milk"))
        await shop.look(29.9)
        assert own(room) == []
        entries = await shop.carts.due([0], 10**15)
        shop.restart()
        await shop.look(30)
        await shop.look(31)
        await shop.carts.note(0, {"v1": shop.began_ms}, [30])  # As if the first look had died before it noted that it was done.
        shop.restart()
        await shop.look(31)
        first, again = own(room)
        assert first == again  # By the same id: readers drop it.
        assert (first.cause.source, first.cause.event_id, first.cause.type) == ("shop", "e-1/abandoned/30", "cart.abandoned")
        assert first.cause.why == "dairy/** in the cart, and nothing bought for 30 minutes"
        assert len(entries) == 1
        assert await room.store.client.zcard(due_key(0)) == 0
        trigger = room.triggers()[0]
        assert (trigger.data.visitor_id, trigger.data.session_id, trigger.time) == ("v1", "s", AT + 30 * MINUTE)

    shopping(servers, work)


@pytest.mark.parametrize(
    ("kind", "items"), [("purchase", ["milk"]), ("remove_from_cart", ["milk"]), ("begin_checkout", []), ("add_to_cart", ["tea"])]
)
def test_cart_that_changes_is_left_no_more_at_the_first_time(servers: Servers, kind: str, items: list[str]) -> None:
    async def work(shop: Shop, room: Room) -> None:
        await shop.browse("add_to_cart", "e-1", 0, item("milk"))
        await shop.browse(kind, "e-2", 29, *map(item, items))
        await shop.look(30)
        assert own(room) == []
        await shop.look(59)
        made = [] if kind in {"purchase", "remove_from_cart"} else ["e-2/abandoned/30"]
        assert [data.cause.event_id for data in own(room)] == made

    shopping(servers, work)


@pytest.mark.parametrize(("minute", "offered"), [(-1, True), (0, False), (29, False)])
def test_cart_is_cancelled_by_a_receipt_at_the_till_since_and_by_no_earlier_one(servers: Servers, minute: int, offered: bool) -> None:
    async def work(shop: Shop, room: Room) -> None:
        await shop.carts.note_receipts([("m1", instant_ms(AT + minute * MINUTE)), ("m1", 5), ("m2", instant_ms(AT + 3 * MINUTE))])
        await shop.browse("add_to_cart", "e-1", 0, item("milk"))
        await shop.look(30)
        assert bool(own(room)) == offered
        assert room.stats.offers["cheese"] == ({"treated": 1} if offered else {"bought_meanwhile": 1})

    shopping(servers, work)


def test_cart_of_other_goods_of_nobody_of_somebody_else_or_found_too_late_leads_to_nothing(servers: Servers) -> None:
    async def work(shop: Shop, room: Room) -> None:
        await shop.browse("add_to_cart", "e-1", 0, item("nails", category="tools"))
        await shop.browse("add_to_cart", "e-2", 0, item("milk"), member=None, visitor="nobody")
        await shop.browse("add_to_cart", "e-3", 0, item("milk"), member="m2", visitor="two")
        await shop.browse("page_view", "e-4", 1, member="m1", visitor="two")  # Somebody else took the browser.
        await shop.look(30)
        assert own(room) == []
        assert room.stats.offers == {}
        await shop.browse("add_to_cart", "e-5", 40, item("milk"), visitor="late")
        await shop.look(131)
        assert (own(room), room.stats.offers["cheese"]) == ([], {"too_old": 1})
        assert await room.store.client.zcard(due_key(0)) == 0

    shopping(servers, work)


def test_carts_come_back_when_redis_was_emptied_and_wait_for_the_page_views_behind_them(servers: Servers) -> None:
    async def work(shop: Shop, room: Room) -> None:
        await shop.browse("add_to_cart", "e-1", 0, item("milk"))
        await room.store.client.delete(due_key(0), CARTS.key(0, "v1"), VISITS.key(0, "v1"), VISITS.meta(0))
        shop.restart()
        position = shop.consumer.position([TopicPartition(CLICKSTREAM, 0)])[0].offset
        shop.consumer.seek(TopicPartition(CLICKSTREAM, 0, position - 1))
        await shop.observe.observe(0, [await asyncio.to_thread(shop.next)])
        shop.abandon.hold(0, instant_ms(AT + 30 * MINUTE))
        await shop.look(30)
        assert own(room) == [], "the purchase may be behind it"
        await shop.abandon.look([0], instant_ms(AT + 30 * MINUTE) + SETTLE_MS)
        assert [data.cause.event_id for data in own(room)] == ["e-1/abandoned/30"]

    shopping(servers, work)


def test_cart_of_an_erased_member_is_gone(servers: Servers) -> None:
    async def work(shop: Shop, room: Room) -> None:
        await shop.browse("add_to_cart", "e-1", 0, item("milk"))
        await shop.carts.note_receipts([("m1", 5)])
        await shop.store.forget({"m1": 0})
        await OfferView(room.store.client).forget(["m1"])
        await shop.look(30)
        assert own(room) == []
        assert await shop.carts.latest_receipts(["m1"]) == {}

    shopping(servers, work)


def test_cart_is_kept_only_where_an_offer_asks(servers: Servers) -> None:
    async def work(shop: Shop, room: Room) -> None:
        await shop.browse("add_to_cart", "e-1", 0, item("milk"))
        assert await shop.store.read(CARTS, {"v1": 0}) == {}

    shopping(servers, work, program(offer()))


def test_backlog_holds_a_partition_and_fresh_page_views_do_not(servers: Servers) -> None:
    async def work(shop: Shop, room: Room) -> None:
        now = instant_ms(datetime.now(AT.tzinfo))
        shop.abandon.read(0, now - 61_000, now)
        shop.abandon.read(1, now - 1_000, now)
        assert shop.abandon.not_before == {0: now + SETTLE_MS}

    shopping(servers, work)
