"""Explanations: they say what the kernel did, and the condition that they name is the one that stood in the way."""

from copy import deepcopy
from datetime import datetime
from random import Random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import event_of
from tests.member_strategies import random_member_history, random_member_program
from tests.strategies import UNSHRUNK, Program, post, program_text, random_program, random_sale, raw_of
from tillstream.kernels.chronicle import Chronicle
from tillstream.kernels.columns import gather
from tillstream.kernels.explaining import NOBODY, explain_sale
from tillstream.kernels.fold import copied
from tillstream.kernels.member_poster import MemberPoster
from tillstream.kernels.posters import Posters
from tillstream.kernels.room import Table
from tillstream.kernels.sheets import net, sheet_of_posting
from tillstream.kernels.snapshot import Snapshot
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.events import SaleEvent, decode
from tillstream.schemas.explanations import Back, Explanation, RuleExplained, Unmet
from tillstream.schemas.ledger import Posting, decode_record
from tillstream.schemas.member_state import WHOLE, Member
from tillstream.schemas.program_file import InvalidProgram, parse_program
from tillstream.schemas.receipts import Sale
from tillstream.simulate import Deliveries, Simulation
from tillstream.simulated_explanations import explanations_of

STAGES = [
    *("when.weekday", "when.hours", "when.from", "when.to", "when.store", "when.min_amount", "when.min_positions"),
    *("member.tier", "member.segment", "member.kind", "member.attributes", "member.first_purchase", "member.bought", "member.visits"),
    *("member.spend", "member.streak", "once", "lines", "lines.category", "lines.brand", "lines.sku", "lines.kind"),
    *("exclude.category", "exclude.brand", "exclude.sku", "exclude.kind", "lines.min_amount", "lines.min_quantity_milli"),
    *("exclusive", "group", "award", "cap.per_receipt", "cap.per_member", "cap.budget"),
]
"""The order in which conditions are looked at."""


class Judgement(NamedTuple):
    """What the kernel gave: per rule basis, award, and points by line number; None: a sum did not fit."""

    given: dict[str, tuple[int, int, dict[int, int]]] | None
    explained: dict[str, RuleExplained]


def poster_of(program: Program) -> MemberPoster:
    versioned = parse_program(program_text(program))
    return MemberPoster(versioned, Posters(Timetable([versioned])))


def judged(program: Program, sale: Sale, member: Member) -> Judgement:
    """The kernel and the explanation, side by side."""
    poster = poster_of(program)
    columns = gather(poster.compiled, [sale], poster.zone)
    local = sale.issued_at.astimezone(ZoneInfo(program["program"]["time_zone"]))
    total = sum(line.amount for line in sale.lines)
    left = {rule.id: rule.cap.budget for rule in poster.program.rules if rule.cap.budget is not None}
    if total >= 2**63:
        return Judgement(None, {})
    awards = poster.rules.award(columns, poster.rules.look(columns, [member], [local.date()], Table()))
    if awards.status[0]:
        return Judgement(None, {})
    found = {
        each.rule_id: (each.basis, each.award, dict(zip(each.line_no, each.points, strict=True)))
        for each in poster.rules.given(awards, 0, [line.line_no for line in sale.lines])
    }
    explained = explain_sale(poster.program, sale, local, member, left)
    return Judgement(found, {rule.rule_id: rule for rule in explained})


def check_equal(judgement: Judgement) -> None:
    """Applied are the very rules that gave points, with the same numbers."""
    said = {
        rule.rule_id: (rule.basis, rule.award, {share.line_no: share.points for share in rule.shares if share.points})
        for rule in judgement.explained.values()
        if rule.applied
    }
    assert said == judgement.given
    for rule in judgement.explained.values():
        assert rule.applied is (rule.unmet is None)
        assert rule.points == sum(share.points for share in rule.shares) if rule.applied else not rule.points
        assert all(share.whole + share.extra == share.points for share in rule.shares)


def stage(unmet: Unmet) -> int:
    path = unmet.path.partition(" ")[0]
    return STAGES.index("member.attributes" if path.startswith("member.attributes.") else path)


def without(program: Program, rule_id: str, unmet: Unmet) -> Program | None:
    """The program without the key that an explanation names; None where it is a matter of numbers, or of another rule."""
    program = deepcopy(program)
    rule = next(rule for rule in program["rules"] if rule["id"] == rule_id)
    *tables, key = unmet.path.split(".")
    if unmet.path.startswith("group "):
        del rule["group"]
    elif unmet.path == "lines.kind":  # Without the key, only goods and services are eligible.
        rule["lines"] = rule.get("lines", {}) | {"kind": ["**"]}
    elif unmet.path == "exclusive":
        next(rule for rule in program["rules"] if f"rule {rule['id']} came" in unmet.found).pop("exclusive")
    elif unmet.path in {"award", "lines"}:
        return None
    else:
        for table in tables:
            rule = rule[table]
        del rule[key]
    return program


def check_named_conditions(program: Program, sale: Sale, member: Member, judgement: Judgement) -> int:
    """Without the key that is named, the rule applies, or a later condition is named; how many were looked at."""
    tried = 0
    for rule in judgement.explained.values():
        if rule.unmet is None or (changed := without(program, rule.rule_id, rule.unmet)) is None:
            continue
        try:
            again = judged(changed, sale, member)
        except InvalidProgram:  # Another rule multiplies this one, which must stay in its group.
            continue
        if again.given is None:
            continue
        check_equal(again)
        then = again.explained[rule.rule_id]
        assert then.unmet is None or stage(then.unmet) > stage(rule.unmet) or is_next(rule.unmet, then.unmet), (rule, then)
        tried += 1
    return tried


def is_next(before: Unmet, after: Unmet) -> bool:
    """Another attribute, or another exclusive rule; and a group chooses among what its rules give after caps (DESIGN.md §5, 4 and 5)."""
    if before.path.startswith("cap.") and after.path.startswith("group "):
        return True
    return stage(before) == stage(after) and before != after and before.path.startswith(("member.attributes.", "exclusive"))


def sale_of(event: dict[str, Any]) -> Sale:
    decoded = decode(raw_of(event))
    assert isinstance(decoded, SaleEvent)
    return decoded.data


@settings(max_examples=60, phases=UNSHRUNK)
@given(st.randoms(use_true_random=False))
def test_explanation_of_any_receipt_is_what_the_kernel_gave(random: Random) -> None:
    program = random_program(random)
    for number in range(4):
        sale = sale_of(random_sale(random, number, huge=random.random() < 0.1))
        judgement = judged(program, sale, NOBODY)
        if judgement.given is not None:
            check_equal(judgement)
            check_named_conditions(program, sale, NOBODY, judgement)


@settings(max_examples=30, phases=UNSHRUNK)
@given(st.randoms(use_true_random=False))
def test_explanation_under_any_member_state_is_what_the_kernel_gave(random: Random) -> None:
    program = random_member_program(random)
    poster, snapshot = poster_of(program), Snapshot()
    post(poster, random_member_history(random), snapshot)
    for account in [*snapshot.members, "nobody"]:
        sale = sale_of(random_sale(random, 99))
        state = poster.fold(snapshot, account)
        state.reach(datetime.fromisoformat(sale.issued_at.isoformat()).astimezone(poster.zone).date())
        judgement = judged(program, sale, copied(state.member))
        assert judgement.given is not None, account
        check_equal(judgement)
        check_named_conditions(program, sale, state.member, judgement)


def with_budgets(random: Random, program: Program) -> Program:
    for rule in program["rules"]:
        if rule.get("on", "receipt") != "tier_up" and random.random() < 0.3:
            cap = rule.setdefault("cap", {})
            cap["budget"] = max(random.choice([0, 10, 100]), cap.get("per_member", {}).get("points", 0))
    return program


def simulated(program: Program, history: list[dict[str, Any]]) -> Simulation:
    simulation = Simulation(parse_program(program_text(program)), deliveries=Deliveries())
    simulation.run(raw_of(event) for event in history)
    return simulation


def with_one_birthday(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nobody is born again: which birthday counts where an enrolment names another one is not what is tested here."""
    first: dict[str, str] = {}
    for event in history:
        if event["type"] == "member.enrolled":
            event["data"]["birth_date"] = first.setdefault(event["data"]["member_id"], event["data"]["birth_date"])
    return history


def said_of(back: Back) -> int:
    """The result of a formula in words."""
    return int(back.formula.replace(":", "=").rpartition("= ")[2])


def lines_of(explanation: Explanation) -> dict[str, dict[int, int]]:
    """Points that are left, by rule and line."""
    found = {}
    for rule in explanation.rules:
        back = {each.line_no: each.points for each in rule.back}
        found[rule.rule_id] = {share.line_no: left for share in rule.shares if (left := share.points - back.get(share.line_no, 0))}
    for rule in [rule for bonus in explanation.bonuses for rule in bonus.rules]:
        found[rule.rule_id] = {WHOLE: found.get(rule.rule_id, {}).get(WHOLE, 0) + rule.points}
    return {rule: {n: p for n, p in lines.items() if p} for rule, lines in found.items() if any(lines.values())}


@settings(max_examples=40, phases=UNSHRUNK)
@given(st.randoms(use_true_random=False))
def test_explanations_of_a_history_say_what_the_ledger_has(random: Random) -> None:
    program = with_budgets(random, random_member_program(random))
    simulation = simulated(program, with_one_birthday(random_member_history(random)))
    explained = {(each.source, each.event_id, each.account_id): each for each in explanations_of(simulation)}
    returns = [each for each in explained.values() if each.kind in {"return", "void"}]
    assert all(said_of(back) == back.points for each in returns for rule in each.rules for back in rule.back)
    about = [record for raw in simulation.snapshot.postings.values() if isinstance(record := decode_record(raw), Posting)]
    rules = poster_of(program).named
    for posting in about:
        if posting.kind in {"return", "void", "correction"}:
            continue
        sheet = simulation.snapshot.sheets.get(posting.posting_id, sheet_of_posting(posting, rules))
        left = {rule: {n: p for n, p in net(sheet, rule).items() if p} for rule in sheet.given}
        left = {rule: lines for rule, lines in left.items() if lines}
        explanation = explained.get((posting.source, posting.event_id, posting.account_id))
        assert (lines_of(explanation) if explanation is not None else {}) == left, (posting, explanation)
        if explanation is not None:
            assert "ledger" not in explanation.note
            assert all(said_of(back) == back.points for rule in explanation.rules for back in rule.back)


FIRST = """
[program]
id = "club"
currency = "PLN"
time_zone = "Europe/Warsaw"
[units.points]
[[rules]]
id = "old"
award = { points = 2, per_amount = 100 }
[[rules]]
id = "second"
member = { visits = { min = 2, days = 60 } }
award = { fixed = 7 }
"""
SECOND = FIRST.replace('currency = "PLN"', 'currency = "PLN"\neffective_from = 2026-04-01').replace('id = "old"', 'id = "new"')


def test_explanation_says_that_earlier_events_were_judged_by_a_version_that_was_taken_back() -> None:
    versions = [parse_program(text) for text in (FIRST, SECOND)]
    simulation = Simulation(Timetable(versions), deliveries=Deliveries())
    lines = ("sale S1 m1 2026-03-01 bread 10.00", "sale S2 m1 2026-03-02 bread 10.00", "sale S3 m1 2026-04-02 bread 10.00")
    simulation.run(raw_of(event_of(line, f"e{number}")) for number, line in enumerate(lines))
    postings = [posting for raw in simulation.snapshot.postings.values() if isinstance(posting := decode_record(raw), Posting)]
    keys = {posting.receipt_id: posting.posting_id for posting in postings}
    sales = simulation.deliveries.sales if simulation.deliveries is not None else {}

    def explained(family: Posters, receipt_id: str) -> Explanation:
        return Chronicle(family, postings, None).sale(keys[receipt_id], sales[keys[receipt_id]])

    assert explained(Posters(Timetable(versions)), "S3").note == ""
    left = Posters(Timetable(versions[1:]))
    assert explained(left, "S3").note == (
        f"2 earlier events of the account were judged by program version {versions[0].version}, which is not published any more, "
        f"and are read by the rules of version {versions[1].version}"
    )
    assert {rule.rule_id: rule.points for rule in explained(left, "S3").rules} == {"new": 20, "second": 7}
    assert "the ledger has 20 points by rule old" not in explained(left, "S3").note
