"""Features in a running system: what workers of the role `offers` keep of page views and purchases, whose it is, and what is forgotten."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from tests.pipeline_harness import PARTITIONS, SETTLED_S, Event, Stage, stage, until
from tillstream.installation import WorkerProcess
from tillstream.kernels.identities import Seal
from tillstream.kernels.sealing import seal_event
from tillstream.models.features.declared import features
from tillstream.models.features.goods import Goods
from tillstream.models.features.purchases import Purchases, bought, decode_purchases
from tillstream.models.features.visits import Visits, decode_visits, seen
from tillstream.schemas.clickstream import decode_click
from tillstream.schemas.events import SaleEvent, decode
from tillstream.simulate import IDENTITY_KEY
from tillstream.sinks.directory import Directory
from tillstream.sinks.features import PURCHASES, VISITS, FeatureStore
from tillstream.sinks.redis import connect
from tillstream.sinks.state import Fenced
from tillstream.streams.forget import Forget
from tillstream.streams.groups import partition_of
from tillstream.streams.observe import Observe, Seen
from tillstream.streams.observe import decode_batch as decode_clicks
from tillstream.streams.stats import Stats
from tillstream.streams.topics import CLICKSTREAM, MEMBERS, TRANSACTIONS

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
CHEESE = Goods((), ("dairy/**",))
SHOP = "web/shop.example.org"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Servers with a worker of each role that matters here."""
    folder = tmp_path_factory.mktemp("observe")
    with stage(folder) as running, running.worker():
        worker = WorkerProcess(running.config, "offers", folder / "offers")
        worker.start()
        try:
            yield running
        finally:
            worker.stop()


def envelope(kind: str, name: str, at: datetime, source: str, data: dict[str, Any]) -> Event:
    return {"specversion": "1.0", "type": kind, "id": name, "source": source, "time": at.isoformat(), "data": data}


def card(value: str) -> dict[str, str]:
    return {"scheme": "card", "value": value}


def enrolled(member: str, *, profiling: bool, household: str | None = None) -> Event:
    data = {"member_id": member, "identities": [card(f"of {member}")], "consents": {"profiling": profiling}, "household_id": household}
    return envelope("member.enrolled", f"enrol {member}", NOW - timedelta(days=400), "crm", data)


def sale(receipt: str, member: str, days_ago: int, amount: int = 1_000, source: str = "till") -> Event:
    at = NOW - timedelta(days=days_ago)
    data = {
        "receipt_id": receipt, "store_id": "1", "register_id": "1", "business_date": at.date().isoformat(), "issued_at": at.isoformat(),
        "currency": "PLN", "member": card(f"of {member}"), "tenders": [],
        "lines": [{"line_no": 1, "sku": "s1", "category": "dairy/cheese", "quantity_milli": 1000, "amount": amount}],
    }  # fmt: skip
    return envelope("receipt.sale", f"event of {receipt}", at, source, data)


def page(name: str, visitor: str, number: int, *, member: str | None = None, **data: Any) -> Event:
    """A page view as the gateway writes it, sealed; `number` is its place in the visit."""
    items = [{"item_id": "s1", "item_category": "dairy/cheese"}]
    whole = {"visitor_id": visitor, "session_id": "s", "page_location": "https://shop.example.org/", "items": items, **data}
    if member is not None:
        whole["member"] = card(f"of {member}")
    at = NOW - timedelta(minutes=10) + timedelta(seconds=number)
    raw = json.dumps(envelope(f"web.{name}", f"{visitor} {number}", at, SHOP, whole)).encode()
    event: Event = json.loads(seal_event(decode_click(raw), raw, Seal(IDENTITY_KEY))[1])
    return event


def visits_of(here: Stage, visitor: str) -> Visits | None:
    with here.client() as client:
        state = client.get(VISITS.key(partition_of(visitor, PARTITIONS), visitor))
    return decode_visits(state) if state and len(state) > 1 else None


def purchases_of(here: Stage, account: str) -> Purchases | None:
    with here.client() as client:
        state = client.get(PURCHASES.key(partition_of(account, PARTITIONS), account))
    return decode_purchases(state) if state and len(state) > 1 else None


def observed(here: Stage) -> None:
    """Waits until all that was sent is in the states."""

    def done() -> bool:
        with here.client() as client:
            for kind, topic in ((VISITS, CLICKSTREAM), (PURCHASES, TRANSACTIONS)):
                for partition, end in here.ends(topic, PARTITIONS).items():
                    if int(client.hget(kind.meta(partition), "offset") or -1) != end - 1:
                        return False
        return here.settled()

    until(done, "all observed", SETTLED_S)


def records(here: Stage, topic: str) -> list[Message]:
    return here.records(topic)


def view(here: Stage, pages: list[Event]) -> None:
    for one in pages:
        here.send([one], CLICKSTREAM, one["data"]["visitor_id"])


def test_observe_features_that_are_served_equal_those_learned_from_the_topics(here: Stage) -> None:
    here.send([enrolled("m1", profiling=True)])
    here.settle()
    here.send([sale(f"m1 {n}", "m1", 7 * n) for n in (5, 3, 4, 2)], key="till")
    here.settle()
    here.send([sale("m1 0", "m1", 3), sale("m1 2", "m1", 14)], key="till")
    names = ("view_item", "search", "add_to_cart", "view_item", "remove_from_cart")
    view(here, [page(name, "v1", n, member="m1" if n == 3 else None) for n, name in enumerate(names)])
    view(here, [page("view_item", "v1", 0)])  # Sent again.
    observed(here)
    visits: Visits | None = None
    for one in decode_clicks(records(here, CLICKSTREAM)):
        if one.click.data.visitor_id == "v1":
            visits = seen(visits, one.click, one.at_ms)
    purchases: Purchases | None = None
    for message in records(here, TRANSACTIONS):
        event = decode(message.value() or b"")
        if isinstance(event, SaleEvent) and event.accountid == "m1":
            at_ms = min(int(event.data.issued_at.timestamp() * 1000), message.timestamp()[1])
            purchases = bought(purchases, event, at_ms)
    served = features(visits_of(here, "v1"), purchases_of(here, "m1"), CHEESE, NOW)
    assert served == features(visits, purchases, CHEESE, NOW)
    assert served["session_pages"] == 5.0
    assert 4.5 < served["receipts_180d"] < 5.0
    assert served["goods_carts_4h"] < 0.01


def test_observe_member_without_consent_has_no_features(here: Stage) -> None:
    here.send([enrolled("m2", profiling=False)])
    here.settle()
    here.send([sale("m2 1", "m2", 1)], key="till")
    view(here, [page("view_item", "v2", 0), page("view_item", "v2", 1, member="m2"), page("view_item", "v2", 2)])
    observed(here)
    assert purchases_of(here, "m2") is None
    visits = visits_of(here, "v2")
    assert visits is not None
    assert (visits.link is not None, visits.total, visits.categories, visits.skus, visits.pages) == (True, None, {}, {}, 0)


@pytest.mark.parametrize("how", ["withdrawn", "erased"])
def test_observe_member_who_withdraws_or_is_erased_is_forgotten(here: Stage, how: str) -> None:
    member, visitor, home = f"m3 {how}", f"v3 {how}", f"home {how}"
    here.send([enrolled(member, profiling=True, household=home)])
    here.settle()
    here.send([sale(f"{member} 1", member, 1)], key="till")
    view(here, [page("view_item", visitor, 0, member=member), page("view_item", f"{visitor} other", 0)])
    observed(here)
    assert purchases_of(here, home) is not None
    assert visits_of(here, visitor) is not None
    if how == "erased":
        here.send([envelope("member.erased", how, NOW, "crm", {"member_id": member})])
    else:
        here.send([envelope("member.consent_changed", how, NOW, "crm", {"member_id": member, "consents": {"profiling": False}})])
    until(lambda: purchases_of(here, home) is None and visits_of(here, visitor) is None, "forgotten", SETTLED_S)
    here.send([sale(f"{member} 2", member, 0)], key="till")
    view(here, [page("view_item", visitor, 1)])
    observed(here)
    assert purchases_of(here, home) is None
    assert visits_of(here, visitor) is None
    assert visits_of(here, f"{visitor} other") is not None


def test_forget_record_from_before_a_consent_deletes_nothing(here: Stage) -> None:
    """A worker that starts reads `members` from the beginning: what a member refused once is not what it refuses now."""
    here.send([enrolled("m8", profiling=False)])
    key = PURCHASES.key(partition_of("m8", PARTITIONS), "m8")
    with here.client() as client:
        until(lambda: bool(client.exists(key)), "the mark", SETTLED_S)
        client.delete(key)  # As a minute does.
    here.send([envelope("member.consent_changed", "yes", NOW - DAY, "crm", {"member_id": "m8", "consents": {"profiling": True}})])
    here.settle()
    here.send([sale("m8 1", "m8", 0)], key="till")
    observed(here)
    before = purchases_of(here, "m8")

    async def again() -> None:
        async with connect(here.config.redis) as client:
            await Forget(FeatureStore(client), Directory(client).registry, PARTITIONS).forget(here.records(MEMBERS, 1))

    asyncio.run(again())
    assert before is not None
    assert purchases_of(here, "m8") == before
    assert purchases_of(here, "m2") is None


def with_observe(here: Stage, scenario: Callable[[Observe], Awaitable[None]]) -> None:
    async def run() -> None:
        async with connect(here.config.redis) as client:
            await scenario(Observe(FeatureStore(client), Directory(client), PARTITIONS, here.config.visitor_events_max, Stats()))

    asyncio.run(run())


def known_of(here: Stage, visitor: str) -> Seen:
    """The latest page view of a visitor as `observe` knows it."""
    messages = [m for m in records(here, CLICKSTREAM) if json.loads(m.value() or b"")["data"]["visitor_id"] == visitor]
    state = visits_of(here, visitor)
    assert state is not None
    found: list[Seen] = []

    async def scenario(observe: Observe) -> None:
        found.extend(await observe.known([Seen(decode_clicks(messages)[-1], state)]))

    with_observe(here, scenario)
    return found[0]


def test_observe_visitor_is_linked_by_a_claim_or_by_a_receipt_that_comes_later(here: Stage) -> None:
    here.send([enrolled("m4", profiling=True)])
    here.settle()
    view(here, [page("view_item", "v4 claims", 0, member="m4"), page("purchase", "v4 buys", 0, transaction_id="order-1")])
    observed(here)
    assert known_of(here, "v4 buys").person is None
    here.send([sale("order-1", "m4", 0, source=SHOP)], key="till")
    observed(here)
    for visitor in ("v4 claims", "v4 buys"):
        known = known_of(here, visitor)
        assert known.person is not None
        assert (known.person.member_id, known.person.account_id) == ("m4", "m4")
        assert known.features(CHEESE, NOW)["goods_receipts"] > 0.9
    assert known_of(here, "v4 claims").features(CHEESE, NOW)["goods_views_4h"] > 0.9


def test_observe_batch_applied_twice_counts_once_and_an_older_worker_is_refused(here: Stage) -> None:
    view(here, [page("view_item", "v5", n) for n in range(3)])
    observed(here)
    before, partition = visits_of(here, "v5"), partition_of("v5", PARTITIONS)
    messages = here.partition_records(CLICKSTREAM, partition)

    async def scenario(observe: Observe) -> None:
        await observe.observe(partition, messages)
        with pytest.raises(Fenced):
            await observe.store.apply(VISITS, partition, -1, 5, {})

    with_observe(here, scenario)
    assert visits_of(here, "v5") == before
    assert before is not None
    assert before.pages == 3


def test_observe_what_is_no_page_view_is_left_and_holds_up_nobody(here: Stage) -> None:
    here.send([b"{", b"\xff", json.dumps(sale("x", "m1", 1)).encode()], CLICKSTREAM, "v6")
    view(here, [page("view_item", "v6", 0)])
    observed(here)
    visits = visits_of(here, "v6")
    assert visits is not None
    assert visits.pages == 1


def test_observe_clock_that_is_ahead_does_not_make_all_else_old(here: Stage) -> None:
    ahead = page("view_item", "v7", 0) | {"time": "2199-01-01T00:00:00Z"}
    view(here, [ahead, page("view_item", "v7", 1)])
    observed(here)
    visits = visits_of(here, "v7")
    assert visits is not None
    assert features(visits, None, CHEESE, datetime.now(UTC))["goods_views_4h"] > 1.5


def test_observe_states_deleted_come_back_from_the_topics(here: Stage, tmp_path: Path) -> None:
    """Last in this module: it starts a worker anew."""
    before = purchases_of(here, "m1")
    with here.client() as client:
        for pattern in ("{o*}:*", "{v*}:*"):
            for key in client.scan_iter(match=pattern):
                client.delete(key)
    worker = WorkerProcess(here.config, "offers", tmp_path)
    worker.start()
    try:
        observed(here)
    finally:
        worker.stop()
    assert purchases_of(here, "m1") == before
