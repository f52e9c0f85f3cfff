"""Why each rule gave an event what it did, or nothing: rule by rule in the order of judging, as the kernels judge (DESIGN.md §3, G7).

In: a program, an event, its member's state before it, and what was left of budgets. Out: one `RuleExplained` per rule, in order. The
conditions are unmet.py's and unmet_member.py's, the arithmetic is formulas.py's; here is what rules do to each other:

    own conditions -> an exclusive rule before -> `first` of the group -> award -> caps -> `best` of the group -> spread over the lines

A rule that has points left in the end applied. That these are the very rules and points of `award.Kernel`, tests/test_explain.py proves.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import structs

from tillstream.kernels.expiry import expires_on
from tillstream.kernels.formulas import Awarded, award_for_count, award_for_lines, cuts_of, shares_of
from tillstream.kernels.reversal import spread
from tillstream.kernels.terms import Moment
from tillstream.kernels.unmet import eligible, unmet_activity, unmet_line, unmet_moment, unmet_receipt
from tillstream.kernels.unmet_member import unmet_member
from tillstream.kernels.wording import cut_words
from tillstream.schemas.explanations import Cut, LeftOut, RuleExplained, Unmet
from tillstream.schemas.member_state import Judged, Member
from tillstream.schemas.programs import Program, Rule, ordered
from tillstream.schemas.receipts import Line, Sale

NOBODY = Member()
"""The state of a member of whom nothing is known; also of everyone where no rule looks at members."""


class Course:
    """Rules of one event, explained one by one: what each does to those behind it."""

    def __init__(self, program: Program, local: datetime, member: Member, left: Mapping[str, int]) -> None:
        self.program = program
        self.local = local
        self.member = member
        self.left = left
        self.explained: dict[str, RuleExplained] = {}
        self.leaders: dict[str, str] = {}
        self.closed_by: str | None = None

    def refused(self, rule: Rule, unmet: Unmet) -> None:
        self.explained[rule.id] = RuleExplained(rule.id, rule.unit, applied=False, unmet=unmet)

    def barred(self, rule: Rule) -> Unmet | None:
        """Whether a rule before this one keeps it out, whatever it would award."""
        if self.closed_by is not None:
            return Unmet("exclusive", "", f"rule {self.closed_by} came before and lets none follow")
        leader = self.leaders.get(rule.group or "")
        if leader is not None and self.stacking(rule) == "first":
            return Unmet(f"group {rule.group}", "", f"rule {leader} came first")
        return None

    def stacking(self, rule: Rule) -> str:
        return "all" if rule.group is None else self.program.groups[rule.group].stacking

    def take(self, rule: Rule, basis: int, awarded: Awarded) -> RuleExplained | None:
        """A rule awards points: what the caps leave of them, None where its group has a better one."""
        cuts = list(cuts_of(rule, awarded.points, self.member, self.local.date(), self.left.get(rule.id)))
        points = cuts[-1].points if cuts else awarded.points
        leader = self.leaders.get(rule.group or "")
        if leader is not None and self.stacking(rule) == "best":
            best = self.explained[leader].points
            if points <= best:
                self.refused(rule, nothing(awarded, points, cuts) or beaten(rule, leader, best, points))
                return None
            self.withdraw(leader, rule, points)
        if rule.group is not None:
            self.leaders[rule.group] = rule.id
        if rule.exclusive:
            self.closed_by = rule.id
        unit = self.program.units[rule.unit]
        last = expires_on(unit.expires, self.local.date())
        self.explained[rule.id] = RuleExplained(
            rule.id, rule.unit, points > 0, nothing(awarded, points, cuts), basis=basis, formula=awarded.formula,
            award=awarded.points, cuts=cuts, points=points, expires_on=None if last is None else last.isoformat(),
            hold_days=unit.hold_days if rule.hold_days is None else rule.hold_days,
        )  # fmt: skip
        return self.explained[rule.id]

    def withdraw(self, leader: str, winner: Rule, points: int) -> None:
        """The best of a group so far was beaten; one that had no points keeps its own reason."""
        before = self.explained[leader]
        unmet = before.unmet or beaten(winner, winner.id, points, before.points)
        self.explained[leader] = RuleExplained(leader, before.unit, applied=False, unmet=unmet)


def nothing(awarded: Awarded, points: int, cuts: Sequence[Cut]) -> Unmet | None:
    """Why a rule whose conditions hold is left without points; None: it is not."""
    if points:
        return None
    return Unmet(cuts[-1].path, "", cut_words(cuts[-1])) if cuts else Unmet("award", "", awarded.formula)


def beaten(rival: Rule, winner: str, best: int, points: int) -> Unmet:
    """A better rule of its group took a rule's place; `rival` is either of them."""
    return Unmet(f"group {rival.group}", "", f"rule {winner} won with {best} points, this one has {points}")


def explain_sale(program: Program, sale: Sale, local: datetime, member: Member, left: Mapping[str, int]) -> list[RuleExplained]:
    """The receipt rules on one sale; `left`: of budgets, by rule id, rules with enough left out."""
    course = Course(program, local, member, left)
    moment = Moment(local.date(), sum(line.amount for line in sale.lines))
    net = net_amounts(sale)
    for rule in (rule for rule in ordered(program.rules) if rule.on == "receipt"):
        unmet = unmet_moment(rule, local, "the receipt") or unmet_receipt(rule, sale) or unmet_member(rule, member, moment)
        lines = unmet or eligible(rule, sale.lines)
        if isinstance(lines, Unmet):
            course.refused(rule, lines)
        elif (barred := course.barred(rule)) is not None:
            course.refused(rule, barred)
        else:
            judge_lines(course, rule, lines, sale.lines, net)
    return list(course.explained.values())


def judge_lines(course: Course, rule: Rule, lines: Sequence[Line], all_lines: Sequence[Line], net: Mapping[int, int]) -> None:
    """A rule that nothing stands in the way of: its basis, award, cuts and shares."""
    weights = [line.amount if rule.earn_on_points_tender else net[line.line_no] for line in lines]
    numbers = [line.line_no for line in lines]
    source = course.explained.get(rule.award.of or "")
    shares = {} if source is None else {share.line_no: share.points for share in source.shares}
    awarded = award_for_lines(rule, lines, sum(weights), sum(shares.get(number, 0) for number in numbers))
    taken = course.take(rule, sum(weights), awarded)
    if taken is not None:
        gross = sum(line.amount for line in lines)
        course.explained[rule.id] = structs.replace(
            taken,
            lines=numbers,
            gross=gross,
            tender=gross - sum(weights),
            shares=shares_of(taken.points, weights, numbers),
            left_out=[LeftOut(line.line_no, unmet) for line in all_lines if (unmet := unmet_line(rule, line)) is not None],
        )


def net_amounts(sale: Sale) -> dict[int, int]:
    """What of each line was not paid with points, by line number."""
    tender = sum(tender.amount for tender in sale.tenders if tender.type == "points")
    amounts, numbers = [line.amount for line in sale.lines], [line.line_no for line in sale.lines]
    paid = spread(tender, amounts, numbers) if tender else [0] * len(numbers)
    return {number: amount - part for number, amount, part in zip(numbers, amounts, paid, strict=True)}


def explain_bonus(
    program: Program, rules: Sequence[Rule], judged: Judged, local: datetime, member: Member, left: Mapping[str, int]
) -> list[RuleExplained]:
    """Rules that answer to something else than a receipt, in the order in which they are judged."""
    course = Course(program, local, member, left)
    for rule in rules:
        unmet = unmet_moment(rule, local)
        if unmet is None and rule.id not in judged.open:
            unmet = unmet_activity(rule, None)
        unmet = unmet or unmet_member(rule, member, Moment(local.date())) or course.barred(rule)
        if unmet is not None:
            course.refused(rule, unmet)
        else:
            course.take(rule, judged.quantity, award_for_count(rule, judged.quantity))
    return list(course.explained.values())
