"""Points held, captured, redeemed, adjusted, moved, pending and written off: each sentence of what they mean, then properties."""

from collections.abc import Iterable
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import UNSHRUNK, Event, Program, envelope, post, postings, program_text, raw_of
from tests.test_posting import BASE, codes, conserved, rebuilt, run, simple_return, simple_sale, state, tick
from tillstream.kernels.holdings import Holding, settle
from tillstream.kernels.lapsing import written_off
from tillstream.kernels.payable import Payable, payable
from tillstream.kernels.posting import Poster
from tillstream.kernels.routed import Outcome
from tillstream.kernels.set_aside import held_points, pending_points
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import decode
from tillstream.schemas.ledger import Entries
from tillstream.schemas.program_file import parse_program
from tillstream.simulate import Simulation
from tillstream.verify import LedgerSums

MEMBER = {"scheme": "member", "value": "m1"}


def spending(kind: str, day: str, identifier: str, **data: Any) -> Event:
    """A `points.*` event at noon of a local date in March 2026."""
    event = envelope(f"points.{kind}", f"{kind}-{identifier}", "app", {"member": MEMBER} | data)
    return event | {"time": f"2026-03-{day}T12:00:00+01:00"}


def hold(day: str, points: int, until: str = "20", hold_id: str = "h", **data: Any) -> Event:
    return spending("hold", day, hold_id, hold_id=hold_id, points=points, expires_at=f"2026-03-{until}T18:00:00+01:00", **data)


def release(day: str, hold_id: str = "h") -> Event:
    return spending("release", day, hold_id, hold_id=hold_id)


def redeem(day: str, points: int, redemption_id: str = "r", **data: Any) -> Event:
    return spending("redeem", day, redemption_id, redemption_id=redemption_id, points=points, **data)


def adjust(day: str, points: int, adjustment_id: str = "a", **data: Any) -> Event:
    reason = {"reason": "goodwill", "actor": "desk"}
    return spending("adjust", day, adjustment_id, adjustment_id=adjustment_id, points=points, **reason, **data)


def transfer(day: str, points: int, to: str = "m2") -> Event:
    return spending("transfer", day, "t", transfer_id="t", points=points, to={"scheme": "member", "value": to})


def sale(day: str, receipt_id: str = "S", amount: int = 1000, paid: int = 0, **tender: Any) -> Event:
    """Earns a point per 0.10 at noon of a date in March; `paid` minor units of it with as many points."""
    tenders = [{"type": "points", "amount": paid, "points": paid, **tender}] if paid else []
    return simple_sale(receipt_id, amount, issued_at=f"2026-03-{day}T12:00:00+01:00", tenders=tenders)


def returned(day: str, amount: int, receipt_id: str = "R", original: str = "S", quantity_milli: int = 0) -> Event:
    return simple_return(amount, receipt_id, original, quantity_milli, issued_at=f"2026-03-{day}T12:00:00+01:00")


def program(**unit: Any) -> Program:
    return BASE | {"units": {"points": {"expires": {"after_days": 10}} | unit}}


def standing(snapshot: Snapshot, account_id: str = "m1") -> tuple[int, int, int, dict[str, int]]:
    """Balance, pending, held, and lots by day of March."""
    held = snapshot.accounts.get(account_id, {}).get("points", Holding())
    lots = settle(held, snapshot.as_of).lots
    return held.balance, pending_points(held), held_points(held), {expiry[-2:]: points for expiry, points in lots.items()}


def moved(outcomes: Iterable[Outcome]) -> list[tuple[str, list[int]]]:
    return [(group.kind, group.points) for posting in postings(outcomes) for group in posting.entries]


def test_hold_takes_the_earliest_lot_out_of_the_balance_and_release_gives_it_back_to_its_lot() -> None:
    outcomes, snapshot = run(sale("01", "S1"), sale("03", "S2"), hold("05", 150), program=program())
    assert standing(snapshot) == (50, 0, 150, {"13": 50})
    assert moved(outcomes)[2:] == [("hold", [-150])]
    _, snapshot = run(sale("01", "S1"), sale("03", "S2"), hold("05", 150), release("06"), program=program())
    assert standing(snapshot) == (200, 0, 0, {"11": 100, "13": 100})


def test_hold_that_the_balance_does_not_cover_on_its_date_is_insufficient() -> None:
    outcomes, snapshot = run(sale("01"), hold("05", 101), hold("12", 1, hold_id="late"), program=program())
    assert codes(outcomes) == ["accepted", "insufficient", "insufficient"]
    assert standing(snapshot) == (100, 0, 0, {"11": 100})


def test_hold_ends_with_the_first_tick_after_the_local_date_of_its_expiry() -> None:
    events = [sale("01"), hold("05", 60, until="08")]
    _, snapshot = run(*events, tick("2026-03-08"), program=program())
    assert standing(snapshot) == (40, 0, 60, {"11": 40})
    outcomes, snapshot = run(*events, tick("2026-03-09"), tick("2026-03-09", "again"), program=program())
    assert standing(snapshot) == (100, 0, 0, {"11": 100})
    assert moved(outcomes)[2:] == [("release", [60])]


def test_hold_that_ends_after_its_lot_expired_gives_back_expired_points() -> None:
    outcomes, snapshot = run(sale("01"), hold("05", 60, until="20"), tick("2026-03-15"), tick("2026-03-21", "t2"), program=program())
    assert moved(outcomes)[2:] == [("expiry", [-40]), ("release", [60]), ("expiry", [-60])]
    assert standing(snapshot) == (0, 0, 0, {})


@pytest.mark.parametrize(("paid", "uncovered"), [(60, False), (20, False), (90, False), (160, True)])
def test_capture_releases_the_whole_hold_and_takes_the_tender_on_the_holds_date(paid: int, uncovered: bool) -> None:
    events = [sale("01", "S1"), hold("05", 60), sale("06", "S2", 500, paid, hold_id="h")]
    outcomes, snapshot = run(*events, program=program())
    groups = postings(outcomes)[2].entries
    assert [(g.kind, sum(g.points), g.spent_on, g.uncovered) for g in groups[:2]] == [
        ("release", 60, "2026-03-05", False), ("capture", -paid, "2026-03-05", uncovered),
    ]  # fmt: skip
    assert standing(snapshot)[:3] == (100 - paid + (500 - paid) // 10, 0, 0)


def test_capture_of_a_hold_whose_lot_has_expired_meanwhile_takes_that_lot() -> None:
    events = [sale("01", "S1"), hold("05", 60), tick("2026-03-15"), sale("16", "S2", 500, 60, hold_id="h"), returned("17", 500, "R", "S2")]
    outcomes, snapshot = run(*events[:4], program=program())
    assert not postings(outcomes)[3].entries[1].uncovered
    assert standing(snapshot) == (44, 0, 0, {"26": 44})
    outcomes, snapshot = run(*events, program=program())
    assert moved(outcomes)[-3:] == [("reversal", [60]), ("reversal", [-44]), ("expiry", [-60])]
    assert standing(snapshot) == (0, 0, 0, {})


def test_a_hold_ends_once() -> None:
    events = [sale("01", "S1"), hold("05", 60), sale("06", "S2", 500, 60, hold_id="h"), sale("06", "S3", 500, 10, hold_id="h")]
    outcomes, snapshot = run(*events, release("07"), tick("2026-03-21"), program=program())
    assert codes(outcomes) == ["accepted"] * 6
    kinds = [kind for kind, _ in moved(outcomes)]
    assert (kinds.count("release"), kinds.count("capture"), kinds.count("redemption")) == (1, 1, 1)
    assert standing(snapshot)[1:3] == (0, 0)


def test_two_tenders_of_one_receipt_capture_a_hold_once() -> None:
    twice = sale("06", "S2", 500, 30, hold_id="h")
    twice["data"]["tenders"] *= 2
    outcomes, snapshot = run(sale("01", "S1"), hold("05", 60), twice, program=program())
    assert [kind for kind, _ in moved(outcomes)] == ["accrual", "hold", "release", "capture", "redemption", "accrual"]
    assert standing(snapshot)[:3] == (100 - 60 + 44, 0, 0)


@pytest.mark.parametrize("ending", [sale("06", "S2", 500, 60, hold_id="h"), release("06"), redeem("06", 60, hold_id="h")])
def test_hold_that_comes_after_its_end_is_released_at_once(ending: Event) -> None:
    outcomes, snapshot = run(sale("01", "S1"), ending, hold("05", 60), program=program())
    assert codes(outcomes) == ["accepted"] * 3
    assert moved(outcomes)[-2:] == [("hold", [-60]), ("release", [60])]
    in_order, expected = run(sale("01", "S1"), hold("05", 60), ending, program=program())
    assert standing(snapshot) == standing(expected)
    assert state(rebuilt(outcomes)) == state(snapshot)
    assert rebuilt(in_order).accounts == expected.accounts


def test_unknown_hold_is_a_tender_without_hold() -> None:
    outcomes, _ = run(sale("01", "S1"), sale("06", "S2", 500, 60, hold_id="unheard"), program=program())
    assert moved(outcomes)[1] == ("redemption", [-60])
    assert postings(outcomes)[1].entries[0].spent_on == "2026-03-06"


def test_late_sale_captures_a_hold_that_a_tick_has_released_meanwhile() -> None:
    events = [sale("01", "S1"), hold("05", 60, until="08"), sale("07", "S2", 500, 60, hold_id="h")]
    outcomes, snapshot = run(*events[:2], tick("2026-03-12"), events[2], program=program())
    assert "capture" in [kind for kind, _ in moved(outcomes)]
    _, expected = run(*events, tick("2026-03-12"), program=program())
    assert standing(snapshot) == standing(expected) == (44, 0, 0, {"17": 44})


def test_hold_cannot_be_captured_after_its_last_day_whether_the_tick_came_or_not() -> None:
    events = [sale("01", "S1"), hold("05", 60, until="08"), sale("09", "S2", 500, 30, hold_id="h")]
    outcomes, snapshot = run(*events, program=program())
    assert [kind for kind, _ in moved(outcomes)] == ["accrual", "hold", "redemption", "accrual"]
    assert standing(snapshot)[2] == 60
    _, snapshot = run(*events, tick("2026-03-09"), program=program())
    _, expected = run(*events[:2], tick("2026-03-09"), events[2], program=program())
    assert standing(snapshot) == standing(expected) == (117, 0, 0, {"11": 70, "19": 47})


def test_release_after_the_last_day_changes_nothing_for_a_late_sale_of_before() -> None:
    events = [sale("01", "S1"), hold("05", 60, until="08"), release("09"), sale("07", "S2", 500, 60, hold_id="h")]
    outcomes, snapshot = run(*events, program=program())
    assert moved(outcomes)[2:4] == [("release", [60]), ("capture", [-60])]
    with_tick, expected = run(*events[:2], tick("2026-03-09"), *events[2:], program=program())
    assert moved(with_tick) == moved(outcomes)
    assert standing(snapshot) == standing(expected)


@pytest.mark.parametrize("ending", [sale("06", "S2", 500, 30, hold_id="h"), release("06"), redeem("06", 30, hold_id="h")])
def test_hold_that_came_and_ended_is_forgotten(ending: Event) -> None:
    _, snapshot = run(sale("01", "S1"), hold("05", 60), ending, program=program())
    assert snapshot.accounts["m1"]["points"].holds == {}


def test_accounts_are_indexed_by_the_last_day_of_what_is_set_aside() -> None:
    _, snapshot = run(sale("01"), adjust("01", 50), hold("02", 50, until="19"), program=program(hold_days=3))
    assert snapshot.new_expiries == {day: {"m1"} for day in ("2026-03-03", "2026-03-11", "2026-03-19")}


def test_second_hold_of_the_same_id_from_another_source_is_a_conflict() -> None:
    outcomes, _ = run(sale("01"), hold("05", 10), hold("05", 10) | {"source": "kiosk"}, hold("05", 11), hold("05", 10), program=program())
    assert codes(outcomes) == ["accepted", "accepted", "conflict", "conflict", "duplicate"]


def test_release_names_no_unit_and_finds_its_hold_in_any() -> None:
    stars = BASE | {"units": {"points": {}, "stars": {}}, "rules": [{"id": "s", "unit": "stars", "award": {"points": 1, "per_amount": 10}}]}
    outcomes, snapshot = run(sale("01"), hold("05", 60, unit="stars"), release("06"), program=stars)
    assert moved(outcomes)[-1] == ("release", [60])
    assert snapshot.accounts["m1"]["stars"].balance == 100
    outcomes, snapshot = run(sale("01"), release("06"), hold("05", 60, unit="stars"), program=stars)
    assert moved(outcomes)[-2:] == [("hold", [-60]), ("release", [60])]
    assert snapshot.accounts["m1"]["stars"].balance == 100


def test_redeem_takes_points_or_is_insufficient() -> None:
    outcomes, snapshot = run(sale("01"), redeem("05", 60), redeem("05", 41, "r2"), redeem("05", 60), program=program())
    assert codes(outcomes) == ["accepted", "accepted", "insufficient", "duplicate"]
    assert standing(snapshot) == (40, 0, 0, {"11": 40})


def test_redeem_of_a_hold_is_its_release_and_one_capture() -> None:
    outcomes, snapshot = run(sale("01"), hold("05", 60), redeem("06", 70, hold_id="h"), program=program())
    assert moved(outcomes)[2:] == [("release", [60]), ("capture", [-70])]
    assert standing(snapshot) == (30, 0, 0, {"11": 30})
    outcomes, snapshot = run(sale("01"), hold("05", 60), redeem("06", 101, hold_id="h"), program=program())
    assert codes(outcomes)[-1] == "insufficient"
    assert standing(snapshot) == (40, 0, 60, {"11": 40})


def test_adjustment_gives_points_with_the_units_expiry_or_its_own_and_takes_them_into_debt() -> None:
    events = [adjust("01", 30), adjust("02", 20, "b", expires_on="2026-03-25"), adjust("03", -60, "c"), adjust("03", 0, "d")]
    outcomes, snapshot = run(*events[:2], program=program())
    assert standing(snapshot) == (50, 0, 0, {"11": 30, "25": 20})
    outcomes, snapshot = run(*events, program=program())
    assert codes(outcomes) == ["accepted"] * 4
    assert standing(snapshot) == (-10, 0, 0, {})


@pytest.mark.parametrize("event", [hold("01", 1, unit="gems"), redeem("01", 1, unit="gems"), adjust("01", 1, unit="gems")])
def test_unit_that_the_program_does_not_have_is_refused(event: Event) -> None:
    outcomes, snapshot = run(event, program=program())
    assert codes(outcomes) == ["unknown_unit"]
    assert standing(snapshot) == (0, 0, 0, {})


def household(member: str, household_id: str | None) -> Event:
    """An enrolment behind all sales of these tests, so that they are still the member's own."""
    enrolled = envelope("member.enrolled", f"enrol-{member}", "crm", {"member_id": member, "household_id": household_id})
    return enrolled | {"time": "2026-03-04T12:00:00Z"}


def simulated(*events: Event, program: Program) -> Simulation:
    simulation = Simulation(parse_program(program_text(program)))
    simulation.run(raw_of(event) for event in events)
    return simulation


def test_transfer_moves_the_earliest_lots_with_their_expiry_to_a_member_of_the_household() -> None:
    family = [household("m1", "home"), household("m2", "home")]
    events = [sale("01", "S1"), sale("03", "S2"), transfer("05", 150), hold("06", 120) | {"id": "m2-hold"}]
    events[3]["data"] = events[3]["data"] | {"member": {"scheme": "member", "value": "m2"}}
    leaves = envelope("member.household_changed", "leave", "crm", {"member_id": "m2", "household_id": None})
    alone = leaves | {"time": "2026-03-05T23:00:00Z"}
    simulation = simulated(*family, *events, alone, program=program())
    assert simulation.rejected == []
    assert simulation.accepted == 7
    assert standing(simulation.snapshot) == (50, 0, 0, {"13": 50})
    assert standing(simulation.snapshot, "m2") == (30, 0, 120, {"13": 30})


def test_transfer_outside_the_household_or_beyond_the_balance_is_refused() -> None:
    strangers = [household("m1", "home"), household("m2", "elsewhere"), sale("01"), transfer("05", 10)]
    assert [r["code"] for r in simulated(*strangers, program=program()).rejected] == ["not_household"]
    loners = [household("m1", None), household("m2", None), sale("01"), transfer("05", 10)]
    assert [r["code"] for r in simulated(*loners, program=program()).rejected] == ["not_household"]
    poor = [household("m1", "home"), household("m2", "home"), sale("01"), transfer("05", 101)]
    assert [r["code"] for r in simulated(*poor, program=program()).rejected] == ["insufficient"]


def test_transfer_to_oneself_changes_nothing_but_the_ledger() -> None:
    simulation = simulated(sale("01"), transfer("05", 40, "m1"), transfer("05", 40, "m1"), program=program())
    assert (simulation.rejected, simulation.duplicates) == ([], 1)
    assert standing(simulation.snapshot) == (100, 0, 0, {"11": 100})


def test_what_follows_from_a_transfer_comes_from_nobody_outside() -> None:
    data = {"transfer_id": "t", "unit": "points", "lots": [[None, 500]], "from_account": "m2", "to_account": "m1"}
    forged = envelope("points.transferred", "x", "app", data)
    own = transfer("05", 10) | {"toaccountid": "m2"}
    rejected = simulated(forged, own, program=program()).rejected
    assert [(r["code"], r["path"]) for r in rejected] == [("invalid", "$.type"), ("invalid", "$.toaccountid")]


def test_accrual_is_pending_until_its_holding_period_ends() -> None:
    pending = program(hold_days=3)
    outcomes, snapshot = run(sale("01"), tick("2026-03-03"), program=pending)
    assert moved(outcomes) == [("accrual", [100]), ("hold", [-100])]
    accrual, held = postings(outcomes)[0].entries
    assert (held.rule_id, held.line_no, held.expires_on) == (accrual.rule_id, accrual.line_no, accrual.expires_on)
    assert standing(snapshot) == (0, 100, 0, {})
    outcomes, snapshot = run(sale("01"), tick("2026-03-04"), tick("2026-03-05", "t2"), program=pending)
    assert moved(outcomes)[2:] == [("release", [100])]
    assert standing(snapshot) == (100, 0, 0, {"11": 100})


def test_holding_period_of_a_rule_goes_before_its_units() -> None:
    rules = [BASE["rules"][0] | {"hold_days": 0}, BASE["rules"][0] | {"id": "slow", "award": {"fixed": 7}}]
    _, snapshot = run(sale("01"), program=program(hold_days=3) | {"rules": rules})
    assert standing(snapshot) == (100, 7, 0, {"11": 100})


def test_pending_points_cannot_be_spent() -> None:
    outcomes, _ = run(sale("01"), hold("02", 1), redeem("02", 1), program=program(hold_days=3))
    assert codes(outcomes) == ["accepted", "insufficient", "insufficient"]


def test_return_of_what_is_pending_reverses_the_accrual_and_releases_its_part() -> None:
    pending = program(hold_days=5)
    outcomes, snapshot = run(sale("01"), returned("02", 305), program=pending)
    assert moved(outcomes)[2:] == [("reversal", [-30]), ("release", [30])]
    assert standing(snapshot) == (0, 70, 0, {})
    outcomes, snapshot = run(sale("01"), returned("02", 305), tick("2026-03-06"), returned("07", 695, "R2"), program=pending)
    assert moved(outcomes)[4:] == [("release", [70]), ("reversal", [-70])]
    assert standing(snapshot) == (0, 0, 0, {})


def test_late_sale_whose_holding_period_has_passed_is_released_and_expired_at_once() -> None:
    outcomes, snapshot = run(tick("2026-03-20"), sale("01"), program=program(hold_days=3))
    assert moved(outcomes) == [("accrual", [100]), ("hold", [-100]), ("release", [100]), ("expiry", [-100])]
    assert standing(snapshot) == (0, 0, 0, {})


def test_clamp_writes_off_what_a_return_would_take_into_debt() -> None:
    events = [sale("01"), redeem("02", 70), returned("03", 1000)]
    outcomes, snapshot = run(*events, program=program(negative_balance="clamp"))
    assert moved(outcomes)[2:] == [("reversal", [-100]), ("adjustment", [70])]
    assert postings(outcomes)[2].entries[1].rule_id is None
    assert standing(snapshot) == (0, 0, 0, {})
    _, snapshot = run(*events, program=program())
    assert standing(snapshot) == (-70, 0, 0, {})


def test_clamp_leaves_the_debt_that_was_there_before() -> None:
    events = [sale("01"), redeem("02", 100), adjust("02", -25), returned("03", 500)]
    outcomes, snapshot = run(*events, program=program(negative_balance="clamp"))
    assert moved(outcomes)[3:] == [("reversal", [-50]), ("adjustment", [50])]
    assert standing(snapshot) == (-25, 0, 0, {})


def test_clamp_counts_the_expiry_that_a_return_gives_back() -> None:
    events = [sale("01"), redeem("02", 70), tick("2026-03-20"), returned("21", 1000)]
    outcomes, snapshot = run(*events, program=program(negative_balance="clamp"))
    assert moved(outcomes)[2:] == [("expiry", [-30]), ("reversal", [-100]), ("adjustment", [70]), ("expiry", [30])]
    assert standing(snapshot) == (0, 0, 0, {})


def test_clamp_gives_back_to_the_lot_that_expires_last_first() -> None:
    """One that has expired could not pay for what was spent afterwards."""
    units = {"points": Holding({"2026-03-05": 10, "2026-03-20": 10}, {"2026-03-10": 10}, {"2026-03-05": 10})}
    back = [Entries("reversal", "points", [-10], expires_on=expiry) for expiry in ("2026-03-05", "2026-03-20")]
    clamping = parse_program(program_text(program(negative_balance="clamp"))).program
    assert written_off(clamping, units, back, "2026-03-12") == [Entries("adjustment", "points", [10], expires_on="2026-03-20")]


TERMS = {"worth": {"points": 100, "amount": 50}, "exclude": {"category": ["tobacco/**"]}, "min_percent": 10, "max_percent": 60}


@pytest.mark.parametrize(
    ("amounts", "balance", "expected"),
    [
        ({"dairy": 1000}, 10_000, Payable(200, 1200)),
        ({"dairy": 999}, 10_000, Payable(200, 1100)),
        ({"dairy": 1000}, 250, Payable(200, 200)),
        ({"dairy": 1000}, 199, Payable(0, 0)),
        ({"dairy": 1000}, -5, Payable(0, 0)),
        ({"dairy": 200, "tobacco/pipe": 800}, 10_000, Payable(200, 400)),
        ({"tobacco/pipe": 800}, 10_000, Payable(0, 0)),
        ({}, 10_000, Payable(0, 0)),
    ],
)
def test_payable_is_whole_steps_of_worth_within_goods_percent_and_balance(
    amounts: dict[str, int], balance: int, expected: Payable
) -> None:
    lines = [
        {"line_no": n, "sku": "x", "category": category, "quantity_milli": 1000, "amount": amount}
        for n, (category, amount) in enumerate(amounts.items())
    ]
    parsed = parse_program(program_text(program(spending=TERMS))).program
    event: Any = decode(raw_of(simple_sale(lines=lines)))
    assert payable(parsed, "points", event.data, balance) == expected
    without = parse_program(program_text(program())).program
    assert payable(without, "points", event.data, balance) == Payable(0, max(0, balance))


def test_gift_cards_may_be_paid_only_where_the_terms_name_them() -> None:
    line = {"line_no": 1, "sku": "x", "kind": "gift_card", "quantity_milli": 1000, "amount": 1000}
    event: Any = decode(raw_of(simple_sale(lines=[line])))
    for goods, most in (({}, 0), ({"kind": ["gift_card"]}, 2000)):
        terms = {"worth": {"points": 100, "amount": 50}, "lines": goods}
        parsed = parse_program(program_text(program(spending=terms))).program
        assert payable(parsed, "points", event.data, 9_999).most == most


@pytest.mark.parametrize(
    ("points", "amount", "flagged"), [(1200, 600, False), (1300, 600, True), (100, 50, True), (200, 100, False), (1000, 501, True)]
)
def test_tender_beyond_the_terms_is_taken_and_flagged(points: int, amount: int, flagged: bool) -> None:
    paid = simple_sale("S2", tenders=[{"type": "points", "amount": amount, "points": points}])
    outcomes, _ = run(adjust("01", 5000), paid, program=program(spending=TERMS))
    group = postings(outcomes)[1].entries[0]
    assert (group.kind, sum(group.points), group.beyond_terms) == ("redemption", -points, flagged)


def test_hold_with_a_date_beyond_the_calendar_is_refused() -> None:
    late = hold("05", 10)
    late["data"]["expires_at"] = "9999-12-31T23:59:59-12:00"
    lasting = adjust("05", 10, expires_on="9999-12-31")
    rejected = simulated(late, lasting, program=program()).rejected
    assert [(r["code"], r["path"]) for r in rejected] == [("invalid", "$.data.expires_at"), ("invalid", "$.data.expires_on")]


def test_pending_and_held_points_count_for_overflow() -> None:
    much = program(hold_days=3) | {"rules": [{"id": "much", "award": {"fixed": 2**62}}]}
    outcomes, snapshot = run(sale("01", "S1"), sale("01", "S2"), program=much)
    assert codes(outcomes) == ["accepted", "overflow"]
    assert standing(snapshot)[:2] == (0, 2**62)


def test_simulate_shows_what_is_pending_and_held() -> None:
    simulation = simulated(sale("01"), adjust("01", 50), hold("02", 50), program=program(hold_days=3))
    assert simulation.result()["accounts"] == {"m1": {"points": {"balance": 0, "pending": 100, "held": 50, "lots": []}}}


def test_plain_accounts_take_no_more_room_than_they_did() -> None:
    _, snapshot = run(sale("01"), program=program())
    assert msgspec.json.encode(snapshot.accounts["m1"]) == b'{"points":{"credits":{"2026-03-11":100},"balance":100}}'


def random_spending(random: Random) -> list[Event]:
    """A history in which nothing has to be covered: points enough were given that outlast it."""
    events = [adjust("01", 100_000, "start", expires_on="2027-12-31")]
    for n in range(random.randint(1, 5)):
        day, last = random.randint(2, 9), random.randint(10, 25)
        hold_id = f"h{n}"
        bought = sale(f"{random.randint(2, 20):02}", f"S{n}", random.randint(1, 3000))
        events.append(bought)
        if random.random() < 0.7:
            events.append(hold(f"{day:02}", random.randint(1, 300), f"{last:02}", hold_id))
        # On the hold's own date: on another, a tender that comes before its hold is dated otherwise, as a tender without hold is.
        ending = random.choice(["sale", "release", "redeem", "nothing"])
        if ending == "sale":
            events.append(sale(f"{day:02}", f"P{n}", 1000, random.randint(1, 400), hold_id=hold_id))
            bought = random.choice([bought, events[-1]])
        elif ending == "release":
            events.append(release(f"{random.randint(day, 25):02}", hold_id))
        elif ending == "redeem":
            events.append(redeem(f"{day:02}", random.randint(1, 300), f"r{n}", hold_id=hold_id))
        if random.random() < 0.6:
            total = bought["data"]["lines"][0]["amount"]
            back = random.choice([total, random.randint(0, total)])
            whole = 2000 if back == total else 0
            events.append(returned(f"{random.randint(20, 26)}", back, f"R{n}", bought["data"]["receipt_id"], whole))
        if random.random() < 0.4:
            events.append(adjust(f"{random.randint(2, 20):02}", random.randint(-50, 50), f"a{n}"))
        if random.random() < 0.5:
            events.append(redeem(f"{random.randint(2, 20):02}", random.randint(1, 90), f"rr{n}"))
    return events + [tick(f"2026-03-{random.randint(2, 30):02}", f"t{n}") for n in range(random.randint(0, 3))]


def verified(outcomes: list[Outcome], snapshot: Snapshot) -> None:
    """What `tillstream verify` says of the ledger: balances are its sums, and what was wholly returned sums to zero."""
    sums = LedgerSums()
    for outcome in outcomes:
        for raw in outcome.records:
            sums.add(raw)
    assert list(sums.conservation()) == []
    assert sums.balances["m1", "points"] == standing(snapshot)[0]


@given(st.randoms(use_true_random=False))
@settings(max_examples=150, phases=UNSHRUNK, deadline=None)
def test_spending_in_any_order_ends_equal_and_the_ledger_alone_gives_it_again(random: Random) -> None:
    given_points, *others = random_spending(random)
    poster = Poster(parse_program(program_text(program(hold_days=random.choice([0, 0, 1, 4])))))
    ends = []
    for _ in range(3):
        snapshot = Snapshot()
        outcomes = []
        for event in [given_points, *others]:
            outcomes += post(poster, [event], snapshot)
            conserved(snapshot)
        entries = sum(sum(group.points) for posting in postings(outcomes) for group in posting.entries)
        assert entries == snapshot.accounts["m1"]["points"].balance
        assert all(outcome.status in {"accepted", "waiting"} for outcome in outcomes)
        verified(outcomes, snapshot)
        again = rebuilt(outcomes)
        assert (again.accounts, again.as_of) == (snapshot.accounts, snapshot.as_of)
        ends.append((standing(snapshot), snapshot.as_of))
        random.shuffle(others)
    assert ends[0] == ends[1] == ends[2]


@given(st.randoms(use_true_random=False))
@settings(max_examples=60, phases=UNSHRUNK, deadline=None)
def test_clamped_balance_never_falls_below_what_it_was_or_zero_by_a_return(random: Random) -> None:
    poster = Poster(parse_program(program_text(program(negative_balance="clamp", hold_days=random.choice([0, 2])))))
    _, *events = random_spending(random)
    random.shuffle(events)
    snapshot = Snapshot()
    outcomes = []
    for event in events:
        before = standing(snapshot)[0]
        outcomes += post(poster, [event], snapshot)
        conserved(snapshot)
        if event["type"] == "receipt.return":
            assert standing(snapshot)[0] >= min(0, before)
    verified(outcomes, snapshot)
    assert rebuilt(outcomes).accounts == snapshot.accounts
