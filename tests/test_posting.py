"""Histories through the engine: any order, batching and repetition gives the same; the ledger alone gives it again."""

from collections import Counter
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import replay
from tests.strategies import (
    UNSHRUNK,
    Event,
    Program,
    envelope,
    post,
    postings,
    program_text,
    random_history,
    random_program,
    random_returns,
    random_sale,
    random_void,
    raw_of,
    repeated,
    routed,
)
from tillstream.kernels.holdings import settle
from tillstream.kernels.lapsing import tick_posting
from tillstream.kernels.posting import Poster
from tillstream.kernels.routed import Outcome, Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import TickEvent
from tillstream.schemas.ledger import Posting, Refused, decode_record, encode_record
from tillstream.schemas.program_file import parse_program

EXPIRES = [{"after_months": 1, "at": "month_end"}, {"after_days": 10}, {"after_months": 1, "at": "quarter_end"}]
BASE: Program = {
    "program": {"id": "base", "currency": "PLN", "time_zone": "Europe/Warsaw"},
    "units": {"points": {"expires": {"after_days": 10}}},
    "rules": [{"id": "base", "award": {"points": 1, "per_amount": 10}}],
}


def random_poster(random: Random) -> tuple[Program, Poster]:
    """A program whose awards stay small, so that nothing overflows; sometimes its points expire."""
    program = random_program(random, rules_max=5)
    for rule in program["rules"]:
        rule["cap"] = {"per_receipt": random.choice([3, 40, 1000])}
        if rule["award"].get("points", 0) > 1000:
            rule["award"] = {"fixed": 17}
    if random.random() < 0.7:
        program["units"]["points"]["expires"] = random.choice(EXPIRES)
    return program, Poster(parse_program(program_text(program)))


def state(snapshot: Snapshot) -> dict[str, Any]:
    """Everything that a snapshot knows, without empty accounts and sums of zero."""

    def cleaned(sums: dict[str, int]) -> dict[str, int]:
        return {key: points for key, points in sums.items() if points}

    accounts = {
        name: {unit: [cleaned(held.credits), cleaned(held.debits), cleaned(held.expired), held.balance] for unit, held in units.items()}
        for name, units in snapshot.accounts.items()
    }
    return {
        "as_of": snapshot.as_of,
        "accounts": {name: units for name, units in accounts.items() if any(map(any, units.values()))},
        "postings": set(snapshot.postings),
        "returned": {key: msgspec.to_builtins(returned) for key, returned in snapshot.returned.items()},
        "waiting": {key: set(events) for key, events in snapshot.waiting.items()},
    }


def rebuilt(outcomes: list[Outcome], *, closed: bool = True) -> Snapshot:
    """A snapshot made of the ledger's records and nothing else; a worker closes each tick by one of its own."""
    snapshot = Snapshot()
    for outcome in outcomes:
        for raw in outcome.records:
            snapshot.record(raw)
        if isinstance(outcome.routed.event, TickEvent) and closed:
            snapshot.record(encode_record(tick_posting(outcome.routed.event, outcome.routed.offset, None, [])))
    return snapshot


def conserved(snapshot: Snapshot) -> None:
    """G4: balance = lots less debt."""
    for units in snapshot.accounts.values():
        for holding in units.values():
            settled = settle(holding, snapshot.as_of)
            assert holding.balance == sum(settled.lots.values()) - settled.debt


@given(st.randoms(use_true_random=False))
@settings(max_examples=60, phases=UNSHRUNK)
def test_history_in_any_order_comes_to_what_the_oracle_says(random: Random) -> None:
    program, poster = random_poster(random)
    voids = random.random() < 0.5
    history = random_history(random, voids=voids)
    history += repeated(random, history)
    random.shuffle(history)
    snapshot = Snapshot()
    outcomes = post(poster, history, snapshot, random.choice([1, 3, 50]))
    expected = replay(program, history)
    balances = {name: units["points"].balance for name, units in snapshot.accounts.items() if "points" in units}
    assert {n: b for n, b in balances.items() if b} == {n: b for n, b in expected.balances.items() if b}
    # A return that is refused since its sale is voided is refused again, and no duplicate, when it comes again.
    assert voids or sum(outcome.status == "duplicate" for outcome in outcomes) == expected.duplicates
    conserved(snapshot)


@pytest.mark.parametrize("seed", range(60))
def test_history_shuffled_repeated_and_split_gives_the_same_state(seed: int) -> None:
    random = Random(seed)
    _, poster = random_poster(random)
    history = random_history(random, ticks=True)
    states, statuses = [], []
    for _ in range(3):
        snapshot = Snapshot()
        outcomes = post(poster, history, snapshot, random.randint(1, len(history)))
        conserved(snapshot)
        states.append(state(snapshot))
        voided = {event["data"]["receipt_id"] for event in history if event["type"] == "receipt.void"}
        judged = [outcome for outcome in outcomes if outcome.status != "duplicate" and not names(outcome) & voided]
        statuses.append({outcome.routed.event.id.rstrip("'"): outcome.status for outcome in judged})
        history += repeated(random, history[: len(history) // 2])
        random.shuffle(history)
    # A return of a sale that is voided as well is taken or refused, as they come: the void takes back all in either case.
    for key in ("accounts", "waiting", "as_of"):
        assert states[0][key] == states[1][key] == states[2][key]
    assert statuses[0] == statuses[1] == statuses[2]


def names(outcome: Outcome) -> set[str]:
    data = outcome.routed.event.data
    return {getattr(data, "original_receipt_id", ""), getattr(data, "receipt_id", "")} - {""}


@pytest.mark.parametrize("seed", range(40))
def test_snapshot_rebuilt_from_the_ledger_equals_the_live_one(seed: int) -> None:
    """G5, with everything that can go wrong: conflicts, returns of too much, of nothing, of returns, waiting for ever."""
    random = Random(seed)
    _, poster = random_poster(random)
    history = dirty_history(random)
    live = Snapshot()
    outcomes = post(poster, history, live, 7)
    again = rebuilt(outcomes)
    assert state(again) == state(live)
    assert (again.postings, again.waiting) == (live.postings, live.waiting)
    conserved(live)
    raws = Counter(raw_of(event) for event in history)
    first = Counter(outcome.routed.raw for outcome in outcomes if not outcome.waited)
    assert raws == first, "every event has one outcome, and one more if it waited"
    assert all(outcome.problem is not None for outcome in outcomes if outcome.status == "refused")


def dirty_history(random: Random) -> list[Event]:
    history = random_history(random, ticks=True)
    sales = [event for event in history if event["type"] == "receipt.sale"]
    for number, sale in enumerate(sales):
        over = random_returns(random, sale, 1)[0]
        for line in over["data"]["lines"]:
            line["amount"] *= 2
        over["data"]["receipt_id"] += f"/over{number}"
        stray = over | {"id": f"stray{number}", "data": over["data"] | {"receipt_id": f"stray{number}", "original_receipt_id": "no"}}
        chained = over["data"] | {"receipt_id": f"X{number}", "original_receipt_id": over["data"]["receipt_id"]}
        conflict = sale | {"id": f"c{number}", "data": sale["data"] | {"register_id": "9"}}
        foreign = sale | {"id": f"f{number}", "data": sale["data"] | {"currency": "EUR", "receipt_id": f"EUR{number}"}}
        history += random.sample([over, stray, over | {"id": f"x{number}", "data": chained}, conflict, foreign, random_void(sale)], 3)
    history += repeated(random, history)
    random.shuffle(history)
    return history


@pytest.mark.parametrize("seed", range(25))
def test_plain_sales_are_written_as_the_schema_encodes_them(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick way and the long way give the same bytes and leave the same state behind."""
    random = Random(seed)
    program, _ = random_poster(random)
    program["units"]["stars"] = {"expires": random.choice(EXPIRES)}
    if not any("of" in rule["award"] for rule in program["rules"]):
        random.choice(program["rules"])["unit"] = "stars"
    poster = Poster(parse_program(program_text(program)))
    history = random_history(random, 12, ticks=True) + [random_sale(random, 100 + n, 60, huge=True) for n in range(5)]
    for number, event in enumerate(history):
        if event["type"] == "receipt.sale":
            event["id"] += random.choice(["", '"', "\\", "\u00e9\u2028", "\x00\x1f\x7f", "\U0001f600"])
            event["data"]["receipt_id"] += random.choice(["", f'{number}"', f"\u00e9\t{number}"])
    random.shuffle(history)
    quick, slow = Snapshot(), Snapshot()
    quickly = post(poster, history, quick, 6)
    monkeypatch.setattr("tillstream.kernels.posting.is_plain", lambda *_: False)
    slowly = post(poster, history, slow, 6)
    assert [outcome.records for outcome in quickly] == [outcome.records for outcome in slowly]
    assert (quick.postings, quick.accounts, quick.new_postings) == (slow.postings, slow.accounts, slow.new_postings)
    assert (quick.changed_accounts, quick.changed_waiting) == (slow.changed_accounts, slow.changed_waiting)


@pytest.mark.parametrize("seed", range(15))
def test_same_input_gives_the_same_bytes_in_any_batching(seed: int) -> None:
    random = Random(seed)
    program, _ = random_poster(random)
    history = dirty_history(random)
    ledgers = []
    for batch_rows in (1, 4, 1000):
        poster = Poster(parse_program(program_text(program)))
        ledgers.append([raw for outcome in post(poster, history, Snapshot(), batch_rows) for raw in outcome.records])
    assert ledgers[0] == ledgers[1] == ledgers[2]


def simple_sale(receipt_id: str = "S", amount: int = 1000, **changes: Any) -> Event:
    sale = random_sale(Random(1))
    lines = [{"line_no": 1, "sku": "x", "quantity_milli": 2000, "amount": amount}]
    data = {"receipt_id": receipt_id, "issued_at": "2026-03-01T12:00:00+01:00", "lines": lines, "tenders": []}
    data["member"] = {"scheme": "member", "value": "m1"}
    return sale | {"id": receipt_id, "data": sale["data"] | data | changes}


def simple_return(amount: int, receipt_id: str = "R", original: str = "S", quantity_milli: int = 0, line: int = 1, **changes: Any) -> Event:
    lines = [{"line_no": 1, "original_line_no": line, "quantity_milli": quantity_milli, "amount": amount}]
    data = simple_sale(receipt_id)["data"] | {"original_receipt_id": original, "lines": lines} | changes
    return envelope("receipt.return", receipt_id, "pos/1", data)


def run(*events: Event, program: Program = BASE, batch_rows: int = 100) -> tuple[list[Outcome], Snapshot]:
    snapshot = Snapshot()
    return post(Poster(parse_program(program_text(program))), events, snapshot, batch_rows), snapshot


def balance(snapshot: Snapshot, account_id: str = "m1") -> int:
    units = snapshot.accounts.get(account_id, {})
    return units["points"].balance if units else 0


def codes(outcomes: list[Outcome]) -> list[str]:
    return [outcome.problem.code if outcome.problem else outcome.status for outcome in outcomes]


def test_waiting_returns_are_taken_up_in_the_order_of_their_time() -> None:
    late = simple_return(300, "R2", issued_at="2026-03-05T12:00:00+01:00")
    early = simple_return(305, "R1", issued_at="2026-03-04T12:00:00+01:00")
    outcomes, snapshot = run(late, early, simple_sale())
    assert [(o.status, o.routed.event.id, o.waited) for o in outcomes] == [
        ("waiting", "R2", False), ("waiting", "R1", False), ("accepted", "S", False), ("accepted", "R1", True), ("accepted", "R2", True),
    ]  # fmt: skip
    assert [posting.closes for posting in postings(outcomes)] == [False, False, True]
    assert [sum(group.points) for posting in postings(outcomes) for group in posting.entries] == [100, -30, -30]
    assert (balance(snapshot), snapshot.waiting) == (40, {})


def test_return_refused_after_waiting_leaves_a_refused_record() -> None:
    outcomes, snapshot = run(simple_return(1001), simple_sale())
    assert codes(outcomes) == ["waiting", "accepted", "over_returned"]
    record = decode_record(outcomes[2].records[0])
    assert isinstance(record, Refused)
    assert (record.code, record.closes, outcomes[2].waited) == ("over_returned", True, True)
    assert balance(snapshot) == 100
    assert state(rebuilt(outcomes)) == state(snapshot)


def test_the_last_record_of_what_was_taken_up_closes_also_when_it_is_refused() -> None:
    outcomes, _ = run(simple_return(600, "R1"), simple_return(600, "R2"), simple_sale())
    assert codes(outcomes)[2:] == ["accepted", "accepted", "over_returned"]
    records = [decode_record(raw) for outcome in outcomes[2:] for raw in outcome.records]
    assert [getattr(record, "closes", None) for record in records] == [False, False, True]


@pytest.mark.parametrize(
    ("events", "expected", "points"),
    [
        ([simple_sale(), simple_sale() | {"id": "again"}], ["accepted", "duplicate"], 100),
        ([simple_sale(), simple_sale(register_id="7")], ["accepted", "conflict"], 100),
        ([simple_return(5), simple_return(5) | {"id": "again"}, simple_return(6)], ["waiting", "duplicate", "conflict"], 0),
        ([simple_sale(), simple_return(5), simple_return(5), simple_return(6)], ["accepted", "accepted", "duplicate", "conflict"], 100),
        ([simple_sale(), simple_return(600), simple_return(600, "R2")], ["accepted", "accepted", "over_returned"], 40),
        ([simple_sale(), simple_return(0, quantity_milli=2001)], ["accepted", "over_returned"], 100),
        ([simple_sale(), simple_return(1, line=2)], ["accepted", "unknown_line"], 100),
        ([simple_sale(), simple_return(5), simple_return(5, "R2", "R")], ["accepted", "accepted", "not_a_sale"], 100),
        ([simple_sale(), simple_return(500, original="S", receipt_id="S")], ["accepted", "conflict"], 100),
        ([simple_return(500, original="S", receipt_id="S"), simple_sale()], ["waiting", "accepted", "conflict"], 100),
        ([simple_sale(currency="EUR")], ["currency"], 0),
        ([simple_sale(), simple_return(5, currency="EUR")], ["accepted", "currency"], 100),
        ([simple_sale(), random_void(simple_sale()), random_void(simple_sale())], ["accepted", "accepted", "duplicate"], 0),
        ([simple_sale(), simple_return(1000), random_void(simple_sale())], ["accepted", "accepted", "accepted"], 0),
        ([simple_sale(), random_void(simple_sale()), simple_return(1)], ["accepted", "accepted", "over_returned"], 0),
        ([simple_sale(), simple_return(5, "R"), random_void(simple_sale("R"))], ["accepted", "accepted", "not_a_sale"], 100),
        ([random_void(simple_sale()), simple_return(5), simple_sale()], ["waiting", "waiting", "accepted", "accepted", "accepted"], 0),
        ([simple_sale(tenders=[{"type": "points", "amount": 1, "points": 1, "unit": "stars"}])], ["unknown_unit"], 0),
        ([simple_sale(lines=[], tenders=[{"type": "points", "amount": 0, "points": 1}])], ["invalid"], 0),
        ([simple_sale(lines=[]), simple_return(0)], ["accepted", "unknown_line"], 0),
    ],
)  # fmt: skip
def test_outcomes_are_named(events: list[Event], expected: list[str], points: int) -> None:
    outcomes, snapshot = run(*events)
    assert codes(outcomes) == expected
    assert balance(snapshot) == points
    assert state(rebuilt(outcomes)) == state(snapshot)


def test_void_of_a_return_names_the_field_that_is_wrong() -> None:
    """Regression: the path was that of a return's field, which a void does not have."""
    outcomes, _ = run(simple_sale(), simple_return(5, "R"), random_void(simple_sale("R")))
    assert outcomes[2].problem is not None
    assert outcomes[2].problem.path == "$.data.receipt_id"


def test_line_that_cost_nothing_is_reversed_by_quantity() -> None:
    program = BASE | {"rules": [{"id": "gift", "award": {"fixed": 7}}]}
    free = simple_sale(amount=0)
    outcomes, snapshot = run(free, simple_return(0, "R1", quantity_milli=1000), simple_return(0, "R2"), program=program)
    assert codes(outcomes) == ["accepted"] * 3
    assert balance(snapshot) == 4
    _, snapshot = run(free, simple_return(0, "R1", quantity_milli=1000), simple_return(0, "R2", quantity_milli=1000), program=program)
    assert balance(snapshot) == 0


def test_points_tender_is_given_back_line_by_line() -> None:
    paid = simple_sale("S2", tenders=[{"type": "points", "amount": 400, "points": 40}])
    outcomes, snapshot = run(simple_sale("S1"), paid, simple_return(500, "R2", "S2"))
    redemption = postings(outcomes)[1].entries[0]
    assert (redemption.kind, redemption.points, redemption.uncovered) == ("redemption", [-40], False)
    assert balance(snapshot) == 100 + (60 - 40) + (20 - 30)
    outcomes, snapshot = run(paid)
    assert postings(outcomes)[0].entries[0].uncovered
    assert balance(snapshot) == 20


def tick(day: str, identifier: str = "t") -> Event:
    return envelope("clock.tick", identifier, "clock", {"date": day})


def test_expiry_falls_due_with_the_first_tick_after_the_last_day() -> None:
    outcomes, snapshot = run(simple_sale(), tick("2026-03-11"))
    assert balance(snapshot) == 100
    outcomes, snapshot = run(simple_sale(), tick("2026-03-12"), tick("2026-03-12", "t2"), tick("2026-03-01", "t3"))
    assert balance(snapshot) == 0
    assert [len(outcome.records) for outcome in outcomes] == [1, 1, 0, 0]


def test_late_sale_and_late_return_are_expired_at_once_and_what_expired_stays_expired() -> None:
    outcomes, snapshot = run(tick("2026-04-01"), simple_sale(), simple_return(500))
    assert balance(snapshot) == 0
    assert [[(g.kind, g.points) for g in posting.entries] for posting in postings(outcomes)] == [
        [("accrual", [100]), ("expiry", [-100])], [("reversal", [-50]), ("expiry", [50])],
    ]  # fmt: skip
    assert state(rebuilt(outcomes)) == state(snapshot)


def test_tick_that_makes_nothing_due_is_closed_in_the_ledger() -> None:
    """Regression: a rebuilt snapshot did not know how far the clock had come, and a late sale expired in one and not in the other."""
    outcomes, snapshot = run(tick("2026-04-01"))
    again = rebuilt(outcomes)
    assert again.as_of == snapshot.as_of == "2026-04-01"
    poster = Poster(parse_program(program_text(BASE)))
    late = [poster.post(routed([simple_sale()]), each)[0].records for each in (again, snapshot)]
    assert late[0] == late[1]
    record = decode_record(late[0][0])
    assert isinstance(record, Posting)
    assert [group.kind for group in record.entries] == ["accrual", "expiry"]


def test_tick_judged_for_some_accounts_does_not_close() -> None:
    """Regression: the closing record came with the first accounts, and a worker that died then never expired the others."""
    outcomes, snapshot = run(simple_sale("S1"), simple_sale("S2", member={"scheme": "member", "value": "m2"}))
    some = Snapshot()
    some.accounts["m1"] = snapshot.accounts["m1"]
    poster = Poster(parse_program(program_text(BASE)))
    tick_outcome = poster.post(routed([tick("2026-04-01")]), some)[0]
    assert [(posting.account_id, posting.closes) for posting in postings([tick_outcome])] == [("m1", False)]
    assert rebuilt([*outcomes, tick_outcome], closed=False).as_of is None


def test_white_space_around_a_waiting_event_does_not_tell_live_from_rebuilt() -> None:
    """Regression: the live snapshot kept the white space, the record's reader did not see it."""
    waiting = routed([simple_return(5)])[0]
    spaced = Routed(waiting.event, waiting.account_id, waiting.offset, b" \n" + waiting.raw + b"\r\n")
    snapshot = Snapshot()
    outcomes = Poster(parse_program(program_text(BASE))).post([spaced], snapshot)
    assert rebuilt(outcomes).waiting == snapshot.waiting


def test_balance_beyond_64_bits_is_refused_and_changes_nothing() -> None:
    program = BASE | {"rules": [{"id": "much", "award": {"fixed": 2**62}}]}
    outcomes, snapshot = run(simple_sale("S1"), simple_sale("S2"), simple_sale("S3"), program=program)
    assert codes(outcomes) == ["accepted", "overflow", "overflow"]
    assert balance(snapshot) == 2**62
    huge = simple_sale("S4", lines=[{"line_no": n, "sku": "x", "quantity_milli": 1, "amount": 2**63 - 1} for n in range(3)])
    outcomes, snapshot = run(huge, simple_sale("S5"))
    assert codes(outcomes) == ["overflow", "accepted"]


def test_points_tenders_beyond_64_bits_do_not_stop_the_batch() -> None:
    """Regression: their sum wrapped to a negative number, which the kernel refused together with the whole batch."""
    lines = [{"line_no": n, "sku": "x", "quantity_milli": 1, "amount": 2**63 - 1} for n in range(3)]
    tenders = [{"type": "points", "amount": 2**62, "points": 1}] * 3
    with pytest.raises(Exception, match="64 bits"):
        routed([simple_sale("S4", lines=lines, tenders=tenders)])


def test_anonymous_sale_earns_nothing_and_can_be_returned() -> None:
    anonymous = simple_sale()
    del anonymous["data"]["member"]
    outcomes, snapshot = run(anonymous, simple_return(5))
    assert codes(outcomes) == ["accepted", "accepted"]
    assert [posting.entries for posting in postings(outcomes)] == [[], []]
    assert [posting.account_id for posting in postings(outcomes)] == [None, None]
    assert state(snapshot)["accounts"] == {}


def test_dates_are_forgotten_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tillstream.kernels.posting.DAYS_MAX", 2)
    sales = [simple_sale(f"S{n}", issued_at=f"2026-03-{1 + n % 5:02}T12:00:00+01:00") for n in range(12)]
    _, snapshot = run(*sales)
    assert snapshot.accounts["m1"]["points"].credits == {f"2026-03-{11 + n}": 200 + 100 * (n < 2) for n in range(5)}
