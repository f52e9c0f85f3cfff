"""The whole pipeline, till to Redis, on real servers: what a history gives is what `simulate` says it gives, whatever else is sent.

One stage and one worker serve all tests, as they would for years: after each test everything that was ever sent is simulated from the
start, and Redis has to hold the same.
"""

from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from itertools import product
from typing import Any

import orjson
import pytest

from tests.pipeline_harness import Event, Stage, as_stored, enrolled, expected, history, stage, tick
from tillstream.installation import WorkerProcess
from tillstream.sources.generated import card_number
from tillstream.streams.topics import MEMBERS, PARKED

SALE: Event = {
    **{"specversion": "1.0", "id": "e-1", "source": "pos/X", "type": "receipt.sale", "time": "2026-03-07T17:42:10+01:00"},
    "data": {
        **{"receipt_id": "x-1", "store_id": "X", "register_id": "1", "business_date": "2026-03-07", "currency": "PLN"},
        **{"issued_at": "2026-03-07T17:42:10+01:00", "member": {"scheme": "card", "value": "bad-1"}},
        "lines": [{"line_no": 1, "sku": "1", "category": "dairy/milk", "quantity_milli": 1000, "amount": 12_345}],
    },
}


class Till:
    """Sends to the running pipeline and keeps what it has sent."""

    def __init__(self, here: Stage, worker: WorkerProcess) -> None:
        self.stage = here
        self.worker = worker
        self.sent: list[Event | bytes] = []

    def send(self, *events: Event | bytes, topic: str = "pos.receipts") -> None:
        """Sends, and waits until all is worked off."""
        self.sent += events
        self.stage.send(events, topic)
        self.stage.settle(self.worker)

    def assert_as_simulated(self) -> dict[str, Any]:
        """Redis holds what a simulation of everything sent so far gives; the simulation's result."""
        wanted = expected(self.sent)
        assert self.stage.balances() == wanted["accounts"]
        return wanted


@pytest.fixture(scope="module")
def till(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    """A pipeline that runs."""
    with stage(tmp_path_factory.mktemp("pipeline")) as here, here.worker() as worker:
        yield Till(here, worker)


def sale(name: str, card: str | None, amount: int = 10_000, lines: int = 2) -> Event:
    """A sale of some equal lines."""
    event = deepcopy(SALE)
    event["id"] = f"sale-{name}"
    event["data"] |= {"receipt_id": name, "member": {"scheme": "card", "value": card}}
    if card is None:
        del event["data"]["member"]
    line = event["data"]["lines"][0]
    event["data"]["lines"] = [{**line, "line_no": number + 1, "amount": amount} for number in range(lines)]
    return event


def returned(of: Event, number: int, card: str | None, amount: int = 10_000, **changes: Any) -> Event:
    """A return of the sale's first line."""
    event = deepcopy(of)
    event |= {"id": f"{of['id']}-return-{number}", "type": "receipt.return"}
    event["data"] |= {"receipt_id": f"{of['data']['receipt_id']}/R{number}", "original_receipt_id": of["data"]["receipt_id"]}
    event["data"]["lines"] = [{"line_no": 1, "original_line_no": 1, "quantity_milli": 0, "amount": amount}]
    event["data"].pop("member", None)
    if card is not None:
        event["data"]["member"] = {"scheme": "card", "value": card}
    event["data"] |= changes
    return event


def void(of: Event) -> Event:
    """The whole sale undone."""
    return {**of, "id": f"{of['id']}-void", "type": "receipt.void", "data": {"receipt_id": of["data"]["receipt_id"]}}


def changed(path: str, value: Any) -> bytes:
    """The model sale with one field replaced, or removed where the value is `...`."""
    event = deepcopy(SALE)
    *way, last = path.split(".")
    there: Any = event
    for step in way:
        there = there[int(step) if step.isdigit() else step]
    if value is ...:
        del there[last]
    else:
        there[last] = value
    return orjson.dumps(event)


MOVED: Event = {"transfer_id": "t", "points": 5, **{name: {"scheme": "card", "value": "bad-1"} for name in ("member", "to")}}
TRANSFER: Event = {**SALE, "id": "e-2", "type": "points.transfer", "data": MOVED}
TRANSFERRED: Event = {
    **{**SALE, "id": "e-3", "type": "points.transferred"},
    "data": {"transfer_id": "t", "unit": "points", "lots": [[None, 500]], "from_account": "m2", "to_account": "m1"},
}

LINE = SALE["data"]["lines"][0]
MALFORMED: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "not_json", "$"),
    "blank": (b" \n", "not_json", "$"),
    "not JSON": (b"{nonsense", "not_json", "$"),
    "cut short": (orjson.dumps(SALE)[:-1], "not_json", "$"),
    "not an object": (b"[1, 2]", "invalid", "$"),
    "two events in one record": (orjson.dumps(SALE) * 2, "not_json", "$"),
    "too deep": (b'{"type":"receipt.sale","x":' + b"[" * 200_000, "not_json", "$"),
    "invalid UTF-8": (orjson.dumps(SALE).replace(b"bad-1", b"bad-\xff"), "not_json", "$"),
    "invalid UTF-8 in an unknown field": (orjson.dumps({**SALE, "x": "bad"}).replace(b'"bad"', b'"\xc3\x28"'), "not_json", "$"),
    "lone surrogate": (orjson.dumps(SALE).replace(b"bad-1", rb"\ud800"), "not_json", "$"),
    "unknown type": (changed("type", "receipt.gift"), "invalid", "$.type"),
    "missing type": (changed("type", ...), "invalid", "$"),
    "wrong specversion": (changed("specversion", "0.3"), "invalid", "$.specversion"),
    "missing specversion": (changed("specversion", ...), "invalid", "$"),
    "time without an offset": (changed("time", "2026-03-07T17:42:10"), "invalid", "$.time"),
    "missing field": (changed("data.lines.0.sku", ...), "invalid", "$.data.lines[0]"),
    "missing data": (changed("data", ...), "invalid", "$"),
    "wrong type of a field": (changed("data.lines.0.amount", "1599"), "invalid", "$.data.lines[0].amount"),
    "a float of money": (changed("data.lines.0.amount", 15.99), "invalid", "$.data.lines[0].amount"),
    "negative amount": (changed("data.lines.0.amount", -1), "invalid", "$.data.lines[0].amount"),
    "2^63": (changed("data.lines.0.amount", 2**63), "invalid", "$.data.lines[0].amount"),
    "unknown scheme": (changed("data.member.scheme", "iris"), "invalid", "$.data.member.scheme"),
    "no currency": (changed("data.currency", "zloty"), "invalid", "$.data.currency"),
    "repeated line_no": (changed("data.lines", [LINE, {**LINE, "line_no": 2}, LINE]), "invalid", "$.data.lines[2].line_no"),
    "10,001 lines": (
        changed("data.lines", [{"line_no": n, "sku": "1", "quantity_milli": 1, "amount": 1} for n in range(10_001)]),
        *("invalid", "$.data.lines"),
    ),
    "five megabytes": (changed("note", "x" * 5_000_000), "too_large", "$"),
    "accountid from outside": (changed("accountid", "m1"), "invalid", "$.accountid"),
    "accountid null from outside": (changed("accountid", None), "invalid", "$.accountid"),
    "accountid in disguise": (
        orjson.dumps({"accountid": "m1", **SALE}).replace(b"accountid", rb"\u0061ccountid"),
        *("invalid", "$.accountid"),
    ),
    "toaccountid from outside": (
        orjson.dumps({**TRANSFER, "toaccountid": "m1"}),
        *("invalid", "$.toaccountid"),
    ),
    "our own event": (orjson.dumps(TRANSFERRED), "invalid", "$.type"),
    "a hold until the year 9999": (
        orjson.dumps({**TRANSFER, "type": "points.hold", "data": {**MOVED, "hold_id": "h", "expires_at": "9999-12-31T00:00:00Z"}}),
        *("invalid", "$.data.expires_at"),
    ),
    "the year 9999": (changed("data.issued_at", "9999-12-31T23:59:59+00:00"), "invalid", "$.data.issued_at"),
    "more points than lines": (
        changed("data.tenders", [{"type": "points", "amount": 99_999, "points": 1}]),
        *("invalid", "$.data.tenders"),
    ),
}
"""Events that cannot be taken, with the code and path that their dead letters must carry."""


def test_history_with_faults_gives_what_simulate_gives(till: Till) -> None:
    members = [enrolled(f"m{n}", card_number(2 * n), card_number(2 * n + 1)) for n in range(10)]
    events = history(1500, seed=7)
    till.send(*members, topic=MEMBERS)
    till.send(*events[:700], tick("2026-03-15"), *events[700:])
    wanted = till.assert_as_simulated()
    assert wanted["waiting"] == 0
    assert wanted["rejected"] == []
    kinds = Counter(event["type"] for event in events)
    assert min(kinds["receipt.return"], kinds["receipt.void"], wanted["duplicates"]) > 20
    assert till.stage.dead_letters() == []


def test_everything_malformed_is_in_deadletter_once_and_the_stream_goes_on(till: Till) -> None:
    before = len(till.stage.dead_letters())
    good = [sale(f"after-{name}", "between") for name in MALFORMED]
    till.stage.send(event for pair in zip((raw for raw, _, _ in MALFORMED.values()), good, strict=True) for event in pair)
    till.stage.settle(till.worker)
    till.sent += good
    till.assert_as_simulated()
    letters = till.stage.dead_letters()[before:]
    found = Counter((b64decode(letter.event_base64), letter.code, letter.path, letter.topic) for letter in letters)
    assert found == Counter({(*expectation, "pos.receipts"): 1 for expectation in MALFORMED.values()})


def test_member_topic_refuses_what_is_no_member(till: Till) -> None:
    before = len(till.stage.dead_letters())
    till.stage.send([SALE, b"{", enrolled("m-odd", "odd-card")], MEMBERS)
    till.sent.append(enrolled("m-odd", "odd-card"))
    till.stage.settle(till.worker)
    assert [(letter.code, letter.path, letter.topic) for letter in till.stage.dead_letters()[before:]] == [
        ("misplaced", "$.type", MEMBERS),
        ("not_json", "$", MEMBERS),
    ]


def test_member_event_sent_by_a_till_finds_its_way(till: Till) -> None:
    till.send(enrolled("m-till", "till-card"))
    till.send(sale("s-till", "till-card"))
    assert till.assert_as_simulated()["accounts"]["m-till"]["points"]["balance"] > 0


def test_same_receipt_again_is_a_duplicate_and_with_other_data_a_conflict(till: Till) -> None:
    first, other_card, cheaper = sale("c-1", "card-c"), sale("c-1", "card-d"), sale("c-1", "card-c", amount=1)
    again = {**first, "id": "another-envelope", "time": "2026-03-08T00:00:00Z", "extra": [1]}
    before = len(till.stage.dead_letters())
    till.send(first)
    till.send(again, other_card, cheaper, first)
    wanted = till.assert_as_simulated()
    letters = till.stage.dead_letters()[before:]
    assert [(letter.code, letter.path, letter.topic) for letter in letters] == [("conflict", "$.data", "transactions")] * 2
    bodies = [orjson.loads(b64decode(letter.event_base64)) for letter in letters]
    assert [body["data"] for body in bodies] == [as_stored(other_card)["data"], as_stored(cheaper)["data"]]
    assert [rejection["code"] for rejection in wanted["rejected"]][-2:] == ["conflict"] * 2


def test_sale_repeated_after_its_card_was_enrolled_counts_once(till: Till) -> None:
    first = sale("late-enrolment", "card-e")
    till.send(first)
    before = till.assert_as_simulated()["accounts"]
    till.send(enrolled("m-e", "card-e"), topic=MEMBERS)
    till.send({**first, "id": "again"})
    after = till.assert_as_simulated()["accounts"]
    (provisional,) = before.keys() - after.keys()
    assert after == {**{name: units for name, units in before.items() if name != provisional}, "m-e": before[provisional]}


def test_return_finds_its_sale_whoever_brings_it_and_whenever(till: Till) -> None:
    cases = list(product((None, "card-f"), ("card-f", "other-card", None), ("early", "late")))
    sales = [sale(f"r-{number}", buyer) for number, (buyer, _, _) in enumerate(cases)]
    returns = [
        (returned(bought, 1, bringer, 3_333), returned(bought, 2, bringer, 6_667))
        for bought, (_, bringer, _) in zip(sales, cases, strict=True)
    ]
    when = [moment for _, _, moment in cases]
    till.send(*(back for pair, moment in zip(returns, when, strict=True) for back in pair if moment == "early"))
    assert parked(till) == 2 * when.count("early")
    till.send(*sales)
    assert parked(till) == 0
    till.assert_as_simulated()
    till.send(*(back for pair, moment in zip(returns, when, strict=True) for back in pair if moment == "late"))
    till.send(*({**back, "id": "again"} for pair in returns for back in pair))
    till.assert_as_simulated()
    assert parked(till) == 0


def test_void_before_its_sale_waits_for_it(till: Till) -> None:
    bought = sale("v-1", "card-v")
    till.send(void(bought))
    assert parked(till) == 1
    till.send(bought, void(bought))
    wanted = till.assert_as_simulated()
    assert not any(units for account, units in wanted["accounts"].items() if account == "card-v")
    assert parked(till) == 0


def test_return_parked_twice_with_other_data_keeps_the_first_and_refuses_the_second(till: Till) -> None:
    before = len(till.stage.dead_letters())
    bought = sale("p-1", "card-p")
    first, second = returned(bought, 1, None, 1_000), returned(bought, 1, None, 9_000)
    till.send(first)
    till.send(second, {**first, "id": "again"})
    till.send(bought)
    till.assert_as_simulated()
    letters = till.stage.dead_letters()[before:]
    assert [(letter.code, letter.path) for letter in letters] == [("conflict", "$.data")]
    assert orjson.loads(b64decode(letters[0].event_base64))["data"] == as_stored(second)["data"]


def test_returns_that_cannot_be_are_refused_by_name(till: Till) -> None:
    before = len(till.stage.dead_letters())
    bought = sale("o-1", "card-o")
    too_much, no_line = returned(bought, 1, None, 10_001), returned(bought, 2, None)
    no_line["data"]["lines"][0]["original_line_no"] = 9
    foreign = returned(bought, 3, None, currency="EUR")
    till.send(bought, sale("o-2", "card-o"))
    till.send(too_much, no_line, foreign, {**sale("o-3", "card-o"), "data": {**sale("o-3", "card-o")["data"], "currency": "EUR"}})
    till.assert_as_simulated()
    assert sorted((letter.code, letter.path) for letter in till.stage.dead_letters()[before:]) == [
        ("currency", "$.data.currency"),
        ("currency", "$.data.currency"),
        ("over_returned", "$.data.lines[0].amount"),
        ("unknown_line", "$.data.lines[0].original_line_no"),
    ]


def test_ticks_expire_points_once_and_late_sales_afterwards_as_well(till: Till) -> None:
    till.send(sale("t-1", "card-t"), tick("2026-04-30"), tick("2026-04-30"), tick("2026-04-01"))
    till.assert_as_simulated()
    till.send(sale("t-2", "card-t"), returned(sale("t-1", "card-t"), 1, None, 5_000))
    till.send(tick("2026-04-30"), tick("2026-06-01"))
    wanted = till.assert_as_simulated()
    assert all(not units["points"]["lots"] for units in wanted["accounts"].values() if "points" in units)


def parked(till: Till) -> int:
    """Returns and voids that wait for their sale: what compaction leaves of the topic, which is what Redis holds as well."""
    left: dict[bytes | None, bytes] = {}
    for record in till.stage.records(PARKED, 1):
        if record.value() is None:
            left.pop(record.key(), None)
        else:
            left[record.key()] = record.value() or b""
    with till.stage.client() as client:
        held: int = sum(client.hlen(key) for key in client.scan_iter(match="{r*}:parked:*"))
        marked = sum(client.scard(f"{{r{slot}}}:parked") for slot in range(32))
    assert held == len(left)
    assert bool(held) == bool(marked)
    return held
