"""Rules that answer to something else than a receipt: enrolment, birthday, a new tier, an activity, a period's end (DESIGN.md §6).

In: what happened, when, to whom. Out: what each rule gives, judged in order, with conditions, caps and groups as for receipts; it is
nobody's line.
"""

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from typing import NamedTuple

from tillstream.kernels.room import Budgets, room_of
from tillstream.kernels.rules import date_is_open, minute_is_open
from tillstream.kernels.terms import Moment, conditions_of, first_failing
from tillstream.schemas.member_state import Judged, Member
from tillstream.schemas.programs import Award, Program, Rule, ordered


class Bonus(NamedTuple):
    """What a rule gives: the count that it looked at, its award before caps, and after."""

    rule: Rule
    basis: int
    award: int
    points: int


class Bonuses:
    """The rules of one program that answer to events, by trigger, in the order in which they are judged."""

    def __init__(self, program: Program) -> None:
        self.groups = program.groups
        self.rules: dict[str, list[Rule]] = {}
        for rule in ordered(program.rules):
            if rule.on != "receipt":
                self.rules.setdefault(rule.on, []).append(rule)
        self.conditions = {rule.id: conditions_of(rule) for rules in self.rules.values() for rule in rules}

    def answering(self, trigger: str, local: datetime, fields: Mapping[str, object]) -> list[str]:
        """The ids of the rules that a moment and the event's own fields leave open."""
        return [rule.id for rule in self.rules.get(trigger, ()) if is_open(rule, local, fields)]

    def give(self, judged: Judged, member: Member, moment: Moment, budgets: Budgets) -> list[Bonus]:
        """What the rules that `judged` leaves open give for its quantity."""
        given: dict[str, Bonus] = {}
        for rule in self.rules.get(judged.trigger, ()):
            if rule.id not in judged.open or first_failing(self.conditions[rule.id], member, moment) is not None:
                continue
            rivals = [other for other in given.values() if rule.group is not None and other.rule.group == rule.group]
            stacking = "all" if rule.group is None else self.groups[rule.group].stacking
            if rivals and stacking == "first":
                continue
            award = award_of(rule, judged.quantity)
            points = min(award, room_of(rule, member, moment, budgets))
            if rule.cap.per_receipt is not None:
                points = min(points, rule.cap.per_receipt)
            if rivals and stacking == "best":
                if max(other.points for other in rivals) >= points:
                    continue
                given = {name: other for name, other in given.items() if other not in rivals}
            given[rule.id] = Bonus(rule, judged.quantity, award, points)
            if rule.exclusive:
                break
        return [bonus for bonus in given.values() if bonus.points]


def is_open(rule: Rule, local: datetime, fields: Mapping[str, object]) -> bool:
    """Whether the local moment and the free fields of an activity leave a rule open."""
    if not (date_is_open(rule, local.date()) and minute_is_open(rule, local.hour * 60 + local.minute)):
        return False
    return all(any(same(fields.get(name), value) for value in values) for name, values in (rule.activity or {}).items())


def same(found: object, wanted: str | int | bool) -> bool:
    """Equality in which `true` is not 1."""
    return found == wanted and isinstance(found, bool) is isinstance(wanted, bool)


def award_of(rule: Rule, count: int) -> int:
    """The award before caps for what was counted.

    >>> award_of(Rule(id="r", award=Award(steps=[(1000, 5), (5000, 30)])), 4999)
    5
    """
    award: Award = rule.award
    if award.fixed is not None:
        return award.fixed if count > 0 or rule.on != "period_end" else 0
    if award.steps is not None:
        return max((points for least, points in sorted(award.steps) if least <= count), default=0)
    points = Fraction(str(award.points or 0))
    if award.per_item is not None:
        return int(points) * (count // award.per_item)
    exact = count * points / (award.per_amount or 1)
    return {"floor": exact.__floor__(), "ceil": exact.__ceil__(), "half_up": (exact + Fraction(1, 2)).__floor__()}[rule.rounding]
