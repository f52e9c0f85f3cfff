"""Features: one code for learning and serving, declared and produced alike; states that stay right in any order, and bounded."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from math import isclose
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_clickstream import click, raw_of
from tillstream.kernels.instants import instant_ms
from tillstream.models.features import purchases as buying
from tillstream.models.features import visits as visiting
from tillstream.models.features.declared import DECLARED, features
from tillstream.models.features.goods import Goods
from tillstream.models.features.purchases import Purchases, bought, brought_back, decode_purchases, encode_purchases
from tillstream.models.features.visits import LONG_MS, SHORT_MS, Visits, decode_visits, encode_visits, seen
from tillstream.schemas.clickstream import ClickEvent, decode_click
from tillstream.schemas.events import ReturnEvent, SaleEvent, decode

NOON = datetime(2026, 3, 7, 12, tzinfo=UTC)
CHEESE = Goods((), ("dairy/cheese/**",))
DAY = timedelta(days=1)


def sku_of(category: str) -> str:
    return "sku of " + category.replace("/", "-")


NUMBERS = count()


def page(name: str, at: datetime, *categories: str, **data: Any) -> ClickEvent:
    items = [{"item_id": sku_of(category), "item_category": category} for category in categories]
    return decode_click(raw_of(click(name, items=items, **data) | {"id": f"c-{next(NUMBERS)}", "time": at.isoformat()}))


def visited(pages: Iterable[ClickEvent], visits: Visits | None = None) -> Visits:
    for one in pages:
        visits = seen(visits, one, instant_ms(one.time))
    assert visits is not None
    return visits


def enveloped(kind: str, name: str, at: datetime, data: dict[str, Any]) -> bytes:
    return json.dumps({"specversion": "1.0", "type": kind, "id": name, "source": "t", "time": at.isoformat(), "data": data}).encode()


def sale(receipt: str, at: datetime, *lines: tuple[str, int], discount: int = 0, kind: str = "item", paid: int = 0) -> SaleEvent:
    data = {
        "receipt_id": receipt, "store_id": "1", "register_id": "1", "business_date": at.date().isoformat(), "issued_at": at.isoformat(),
        "currency": "PLN", "tenders": [{"type": "points", "amount": paid, "points": paid}] if paid else [],
        "lines": [
            {"line_no": n, "sku": sku_of(category), "category": category, "quantity_milli": 1000, "amount": amount, "kind": kind,
             "discount": discount}
            for n, (category, amount) in enumerate(lines)
        ],
    }  # fmt: skip
    event = decode(enveloped("receipt.sale", receipt, at, data))
    assert isinstance(event, SaleEvent)
    return event


def returned(receipt: str, original: str, at: datetime, amount: int) -> ReturnEvent:
    data = {
        "receipt_id": receipt, "original_receipt_id": original, "store_id": "1", "register_id": "1", "business_date": at.date().isoformat(),
        "issued_at": at.isoformat(), "currency": "PLN",
        "lines": [{"line_no": 1, "original_line_no": 0, "quantity_milli": 1000, "amount": amount}],
    }  # fmt: skip
    event = decode(enveloped("receipt.return", receipt, at, data))
    assert isinstance(event, ReturnEvent)
    return event


def shopped(sales: Iterable[SaleEvent], purchases: Purchases | None = None) -> Purchases:
    for one in sales:
        purchases = bought(purchases, one, instant_ms(one.data.issued_at))
    assert purchases is not None
    return purchases


def test_features_everything_known_are_all_that_is_declared() -> None:
    visits = visited([page("view_item", NOON, "dairy/cheese"), page("search", NOON, "dairy/cheese")])
    purchases = shopped(sale(f"r{n}", NOON + n * DAY, ("dairy/cheese/hard", 500), paid=100, discount=50) for n in range(3))
    found = features(visits, purchases, CHEESE, NOON + 3 * DAY)
    assert list(found) == [one.name for one in DECLARED]
    assert all(isinstance(value, float) for value in found.values())


def test_features_of_nobody_are_those_of_the_moment() -> None:
    assert list(features(None, None, CHEESE, NOON)) == [one.name for one in DECLARED if one.source == "moment"]


def test_features_of_one_source_ask_no_other() -> None:
    visits, purchases = visited([page("view_item", NOON, "dairy/cheese")]), shopped([sale("r", NOON, ("dairy/cheese", 500))])
    sources = {one.name: one.source for one in DECLARED}
    assert {sources[name] for name in features(visits, None, CHEESE, NOON)} == {"moment", "visits"}
    assert {sources[name] for name in features(None, purchases, CHEESE, NOON)} == {"moment", "purchases"}


def test_page_of_features_has_what_is_declared() -> None:
    text = (Path(__file__).parents[1] / "docs/features.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (\w+) \| ([^|]+) \|$", text, re.MULTILINE)
    assert rows == [(one.name, one.unit, one.source, one.meaning) for one in DECLARED]


def test_visits_one_half_life_later_count_half() -> None:
    visits = visited([page("view_item", NOON, "dairy/cheese"), page("view_item", NOON, "fuel")])
    found = features(visits, None, CHEESE, NOON + timedelta(milliseconds=SHORT_MS))
    assert (found["views_10m"], found["goods_views_10m"]) == (1.0, 0.5)
    assert features(visits, None, CHEESE, NOON + timedelta(milliseconds=LONG_MS))["goods_views_4h"] == 0.5
    assert features(visits, None, CHEESE, NOON - DAY)["goods_views_4h"] == 1.0


def test_visits_same_page_again_counts_once() -> None:
    one = page("view_item", NOON, "dairy/cheese")
    assert visited([one, one]) == visited([one])


def test_visits_cart_emptied_again_counts_nothing_and_never_less() -> None:
    put, taken = page("add_to_cart", NOON, "dairy/cheese"), page("remove_from_cart", NOON, "dairy/cheese")
    assert features(visited([put, taken]), None, CHEESE, NOON)["goods_carts_4h"] == 0.0
    assert features(visited([taken]), None, CHEESE, NOON)["goods_carts_4h"] == 0.0


def test_visits_lists_tell_of_categories_and_of_no_goods() -> None:
    visits = visited([page("view_item_list", NOON, "dairy/cheese", "dairy/cheese", "fuel")])
    assert features(visits, None, CHEESE, NOON)["goods_views_4h"] == 1.0
    assert features(visits, None, Goods(("sku of *",)), NOON)["goods_views_4h"] == 0.0
    assert visits.pages == 1


def test_visits_goods_by_sku_must_be_of_the_category_too() -> None:
    visits = visited([page("view_item", NOON, "dairy/cheese"), page("view_item", NOON, "fuel")])
    assert features(visits, None, Goods(("sku of *",)), NOON)["goods_views_4h"] == 2.0
    assert features(visits, None, Goods(("sku of *",), ("fuel",)), NOON)["goods_views_4h"] == 1.0


def test_visits_new_session_begins_at_its_first_page_and_a_late_page_of_the_old_one_leaves_it() -> None:
    old, new = page("page_view", NOON, session_id="a"), page("page_view", NOON + DAY, session_id="b")
    late = page("page_view", NOON, session_id="a")
    visits = visited([old, new, late, page("page_view", NOON + DAY + timedelta(minutes=5), session_id="b")])
    found = features(visits, None, CHEESE, NOON + DAY + timedelta(minutes=6))
    assert (found["session_pages"], found["session_minutes"]) == (2.0, 6.0)


def card(value: str) -> dict[str, str]:
    return {"scheme": "card", "value": value}


def test_visits_of_somebody_else_begin_anew_and_late_pages_of_the_first_do_not_count() -> None:
    unknown = page("view_item", NOON, "fuel")
    first = page("view_item", NOON, "dairy/cheese", member=card("1"))
    second = page("view_item", NOON + timedelta(minutes=5), "bakery", member=card("2"))
    assert set(visited([unknown, first]).categories) == {"fuel", "dairy/cheese"}
    visits = visited([unknown, first, second, first])
    assert set(visits.categories) == {"bakery"}
    assert visits.link is not None
    assert visits.link.identity == second.data.member


def test_visits_purchase_links_only_where_nobody_was_claimed() -> None:
    purchase = page("purchase", NOON, "fuel", transaction_id="r-1")
    claim = page("page_view", NOON - timedelta(hours=1), member=card("1"))
    alone = visited([purchase]).link
    assert alone is not None
    assert (alone.identity, alone.sale_key is not None) == (None, True)
    for order in ([purchase, claim], [claim, purchase]):
        link = visited(order).link
        assert link is not None
        assert (link.identity, link.sale_key) == (claim.data.member, None)


def test_visits_more_categories_and_goods_than_are_kept_the_weakest_leave() -> None:
    many = [page("view_item", NOON + timedelta(seconds=n), f"c{n:03}") for n in range(200)]
    visits = visited([page("add_to_cart", NOON, "kept"), page("view_item", NOON, "kept"), *many])
    assert (len(visits.categories), len(visits.skus)) == (visiting.CATEGORIES_MAX, visiting.SKUS_MAX)
    assert {"kept", "c199"} <= visits.categories.keys()
    assert len(encode_visits(visited([page("view_item", NOON, *(f"{n:03}{'x' * 60}" for n in range(200)))]))) < 12_000


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["view_item", "search", "add_to_cart", "remove_from_cart", "purchase"]),
        st.integers(0, 10_000),
        st.sampled_from(["dairy/cheese", "dairy/milk", "fuel"]),
    ),
    min_size=1,
    max_size=12,
)


@given(EVENTS, st.randoms(use_true_random=False))
def test_visits_in_any_order_have_the_same_sums(events: list[tuple[str, int, str]], random: Any) -> None:
    pages = [page(name, NOON + timedelta(seconds=second), category) for name, second, category in events]
    shuffled = random.sample(pages, len(pages))
    at = NOON + DAY
    one, other = (features(visited(order), None, CHEESE, at) for order in (pages, shuffled))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert isclose(value, other[name], rel_tol=1e-9, abs_tol=1e-12), name


@given(EVENTS)
def test_visits_through_their_bytes_are_the_same_to_the_bit(events: list[tuple[str, int, str]]) -> None:
    """What a worker reads, writes and reads again in batches of one equals what is folded offline at once: no skew."""
    pages = [page(name, NOON + timedelta(seconds=second), category) for name, second, category in events]
    served: Visits | None = None
    for one in pages:
        served = decode_visits(encode_visits(seen(served, one, instant_ms(one.time))))
    learned = visited(pages)
    assert features(served, None, CHEESE, NOON + DAY) == features(learned, None, CHEESE, NOON + DAY)
    assert encode_visits(served) == encode_visits(learned)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 10**6), st.sampled_from(["dairy/cheese", "fuel"])), min_size=1, max_size=10))
def test_purchases_through_their_bytes_are_the_same_to_the_bit(events: list[tuple[int, int, str]]) -> None:
    sales = [sale(f"r{n}", NOON + day * DAY, (category, amount)) for n, (day, amount, category) in enumerate(events)]
    served: Purchases | None = None
    for one in sales:
        served = decode_purchases(encode_purchases(bought(served, one, instant_ms(one.data.issued_at))))
    learned = shopped(sales)
    assert features(None, served, CHEESE, NOON + 301 * DAY) == features(None, learned, CHEESE, NOON + 301 * DAY)
    assert encode_purchases(served) == encode_purchases(learned)


def test_purchases_regular_buyer_is_due_when_the_interval_has_passed() -> None:
    purchases = shopped(sale(f"r{n}", NOON + 7 * n * DAY, ("dairy/cheese/hard", 500), ("fuel", 9_000)) for n in range(6))
    found = features(None, purchases, CHEESE, NOON + 42 * DAY)
    assert (found["gap_days"], found["gap_variation"], found["due"]) == (7.0, 0.0, 1.0)
    assert (found["goods_gap_days"], found["goods_due"]) == (7.0, 1.0)
    assert found["recency_days"] == found["goods_recency_days"] == 7.0
    assert found["tenure_days"] == 42.0
    assert isclose(found["goods_spend_share"], 500 / 9_500)
    assert found["weekday_share"] == found["daypart_share"] == 1.0
    assert features(None, purchases, CHEESE, NOON + 43 * DAY)["weekday_share"] == 0.0
    assert features(None, purchases, CHEESE, NOON + 10_000 * DAY)["due"] == 10.0


def test_purchases_bought_once_have_no_interval_and_twice_a_day_neither() -> None:
    once = shopped([sale("r1", NOON, ("dairy/cheese", 500)), sale("r2", NOON + timedelta(hours=3), ("dairy/cheese", 500))])
    assert not {"gap_days", "due", "goods_gap_days", "goods_due"} & features(None, once, CHEESE, NOON).keys()


def test_purchases_late_sale_counts_at_its_time_and_leaves_intervals() -> None:
    weekly = [sale(f"r{n}", NOON + 7 * n * DAY, ("dairy/cheese", 500)) for n in range(4)]
    late = sale("late", NOON + 10 * DAY, ("dairy/cheese", 500))
    at = NOON + 21 * DAY
    found, without = (features(None, shopped(sales), CHEESE, at) for sales in ([*weekly, late], weekly))
    in_order = features(None, shopped(sorted([*weekly, late], key=lambda one: one.data.issued_at)), CHEESE, at)
    assert isclose(found["receipts_30d"], in_order["receipts_30d"], rel_tol=1e-12)
    assert isclose(found["receipts_30d"] - without["receipts_30d"], 2 ** (-11 / 30), rel_tol=1e-9)
    assert (found["gap_days"], found["recency_days"]) == (7.0, 0.0)


def test_purchases_same_receipt_again_counts_once() -> None:
    one = sale("r1", NOON, ("dairy/cheese", 500))
    assert shopped([one, one]) == shopped([one])
    before = shopped([one])
    back = returned("x1", "r1", NOON + DAY, 200)
    after = brought_back(before, back, instant_ms(NOON + DAY))
    assert brought_back(after, back, instant_ms(NOON + DAY)) == after
    assert isclose(features(None, after, CHEESE, NOON + DAY)["returned_share"], 200 / (500 * 2 ** (-1 / 180)))
    assert brought_back(None, back, 0) is None


def test_purchases_money_is_that_of_goods_and_shares_are_of_it() -> None:
    found = features(None, shopped([sale("r", NOON, ("dairy/cheese", 750), paid=150, discount=250)]), CHEESE, NOON)
    assert (found["spend_30d"], found["basket"], found["discount_share"], found["points_share"]) == (750.0, 750.0, 0.25, 0.2)
    assert (found["goods_discount_share"], found["top_spend"]) == (0.25, 750.0)
    deposit = features(None, shopped([sale("r", NOON, ("dairy/cheese", 750), kind="deposit")]), CHEESE, NOON)
    assert (deposit["spend_30d"], deposit["goods_spend"], deposit["receipts_30d"]) == (0.0, 0.0, 1.0)


def test_purchases_weekday_is_that_of_the_till() -> None:
    """Saturday at one in Warsaw is Friday evening in London."""
    night = datetime(2026, 3, 7, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    purchases = shopped([sale("r", night, ("fuel", 100))])
    assert features(None, purchases, CHEESE, night)["weekday_share"] == 1.0
    assert features(None, purchases, CHEESE, night.astimezone(UTC))["weekday_share"] == 0.0


def test_purchases_more_goods_than_are_kept_the_weakest_leave_and_totals_stay() -> None:
    many = [sale(f"r{n}", NOON, *((f"t{n}/c{m}", 1) for m in range(40))) for n in range(20)]
    purchases = shopped([sale("once", NOON, ("t9/c39", 1)), sale("again", NOON, ("t9/c39", 1)), *many])
    kept = (len(purchases.tops), len(purchases.categories), len(purchases.skus), len(purchases.recent))
    assert kept == (buying.TOPS_MAX, buying.CATEGORIES_MAX, buying.SKUS_MAX, 22)
    assert "t9/c39" in purchases.categories
    assert features(None, purchases, CHEESE, NOON)["spend_30d"] == 802.0
    assert len(encode_purchases(purchases)) < 9_000


@pytest.mark.parametrize("days", [-1, 0, 400, 40_000])
def test_features_at_any_time_are_finite(days: int) -> None:
    purchases = shopped([sale(f"r{n}", NOON + n * DAY, ("dairy/cheese", 10**12)) for n in range(3)])
    found = features(visited([page("view_item", NOON, "dairy/cheese")]), purchases, CHEESE, NOON + days * DAY)
    assert all(abs(value) < 1e15 for value in found.values())
