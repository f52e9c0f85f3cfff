"""How much a rule may still give: caps per member and period, and budgets over all members (DESIGN.md §5, Caps).

A budget is asked through `Budgets`: in a simulation it is one table; a worker reserves what a batch
may need before it judges.
"""

from collections.abc import Mapping
from typing import Protocol

from tillstream.kernels.periods import period
from tillstream.kernels.terms import Moment, total
from tillstream.schemas.fields import INT64_MAX
from tillstream.schemas.member_state import Member
from tillstream.schemas.programs import Rule


class Budgets(Protocol):
    """What is left of each rule's budget."""

    def left(self, rule: Rule) -> int:
        """Points that the rule may still give to anybody."""

    def moved(self, rule: Rule, points: int) -> None:
        """The rule gave points, or, negative, a return gave some back."""


class Table:
    """Budgets of one process that sees everything."""

    def __init__(self) -> None:
        self.given: dict[str, int] = {}

    def left(self, rule: Rule) -> int:
        return max(0, (rule.cap.budget or 0) - self.given.get(rule.id, 0))

    def moved(self, rule: Rule, points: int) -> None:
        self.given[rule.id] = self.given.get(rule.id, 0) + points


class Allowance:
    """Budgets for judging one account's events once more: what they had taken is theirs again, and `used` is what they take now."""

    def __init__(self, budgets: Budgets, had: Mapping[str, int]) -> None:
        self.budgets = budgets
        self.had = had
        self.used: dict[str, int] = {}
        self.rules: dict[str, Rule] = {}

    def left(self, rule: Rule) -> int:
        self.rules[rule.id] = rule
        return max(0, self.budgets.left(rule) + self.had.get(rule.id, 0) - self.used.get(rule.id, 0))

    def moved(self, rule: Rule, points: int) -> None:
        self.rules[rule.id] = rule
        self.used[rule.id] = self.used.get(rule.id, 0) + points

    def changes(self) -> list[tuple[Rule, int]]:
        """What the budgets themselves are to be told."""
        if not self.rules:
            return []
        return [(rule, more) for name, rule in self.rules.items() if (more := self.used.get(name, 0) - self.had.get(name, 0))]


def room_of(rule: Rule, member: Member, moment: Moment, budgets: Budgets) -> int:
    """The most that the rule may give now."""
    room = INT64_MAX
    if rule.cap.per_member is not None:
        spent = total(member.given.get(rule.id), period(moment.day, rule.cap.per_member.per))
        room = max(0, rule.cap.per_member.points - spent)
    if rule.cap.budget is not None:
        room = min(room, budgets.left(rule))
    return room
