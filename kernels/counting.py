"""How events move a member's counters: what was bought, what came back, what rules gave (schemas/member_state.py, `Member.counts`).

All of it reads ledger postings only. What comes back is taken off the date of its sale, from the moment it comes back.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import NamedTuple

from tillstream.kernels.rules import CompiledRules
from tillstream.kernels.terms import PURCHASES, SPEND, VISITS
from tillstream.kernels.tiers import counter_of
from tillstream.schemas.ledger import Posting
from tillstream.schemas.member_state import Member
from tillstream.schemas.programs import Program, Rule

Sums = Mapping[int, tuple[int, int]]
"""Amount and quantity that came back, by line number."""


class Counting:
    """Which counters a program needs, and how a posting moves them."""

    def __init__(self, program: Program, compiled: CompiledRules) -> None:
        self.words = compiled.words
        self.watched = [(name, len(compiled.rules) + place) for place, name in enumerate(compiled.watches)]
        self.rules = {rule.id: rule for rule in program.rules}
        self.points_counter = None if program.tiers is None else counter_of(program.tiers)

    def bought(self, member: Member, sale: Posting) -> None:
        """A sale, with nothing of it come back."""
        day = day_of(sale)
        add(member, VISITS, day, 1)
        add(member, PURCHASES, day, 1)
        add(member, SPEND, day, sum(sale.amount))
        for counter, count in self._watched(sale, {}):
            member.counts.setdefault(counter, {}).setdefault(day, 0)  # A period with a sale has an end, whatever was bought.
            add(member, counter, day, count)

    def came_back(self, member: Member, sale: Posting, before: Sums, after: Sums, *, voided: bool) -> None:
        """What has come back of `sale` grows from `before` to `after`."""
        day = day_of(sale)
        add(member, SPEND, day, sum(before.get(n, NOTHING)[0] - after.get(n, NOTHING)[0] for n in sale.line_no))
        if (voided or all_gone(sale, after)) and not all_gone(sale, before):
            add(member, VISITS, day, -1)
        if voided:
            add(member, PURCHASES, day, -1)
        left = dict(self._watched(sale, after))
        for counter, count in self._watched(sale, before):
            add(member, counter, day, left[counter] - count)

    def gave(self, member: Member, rule_id: str, day: int, points: int) -> None:
        """A rule gave points, for the first time."""
        rule = self.rules.get(rule_id)
        if rule is None:
            return
        if rule.once is not None and points > 0:
            member.used.setdefault(rule_id, []).append(day)
        self._moved(member, rule, day, points, returned=False)

    def took_back(self, member: Member, rule_id: str, day: int, points: int) -> None:
        """A return took back points that a rule had given on `day`."""
        rule = self.rules.get(rule_id)
        if rule is not None:
            self._moved(member, rule, day, -points, returned=True)

    def gives_back(self, rule_id: str) -> bool:
        """Whether what returns take back of a rule's points makes room again."""
        rule = self.rules.get(rule_id)
        return rule is not None and rule.cap.on_return == "give_back"

    def _moved(self, member: Member, rule: Rule, day: int, points: int, *, returned: bool) -> None:
        counter = f"points/{rule.unit}"
        if counter == self.points_counter:
            add(member, counter, day, points)
        if rule.cap.per_member is not None and not (returned and rule.cap.on_return == "keep"):
            given = member.given.setdefault(rule.id, {})
            given[day] = given.get(day, 0) + points

    def _watched(self, sale: Posting, back: Sums) -> Iterator[tuple[str, int]]:
        """What each watch counts of a sale of which `back` came back."""
        bits = sale.judged.line_bits if sale.judged is not None else []
        for name, row in self.watched:
            lines = [
                Line(amount - back.get(number, NOTHING)[0], quantity - back.get(number, NOTHING)[1])
                for place, (number, amount, quantity) in enumerate(zip(sale.line_no, sale.amount, sale.quantity_milli, strict=True))
                if bits[place * self.words + row // 64] >> row % 64 & 1
            ]
            yield f"watch/{name}", counted(name, [line for line in lines if line.amount or line.quantity_milli])


class Line(NamedTuple):
    """What is left of one line."""

    amount: int
    quantity_milli: int


NOTHING = (0, 0)


def counted(name: str, lines: list[Line]) -> int:
    """What a watch called `name` counts: lines, their amount, their quantity, or the visit."""
    how = name.partition(" ")[0]
    if how == "amount":
        return sum(line.amount for line in lines)
    if how == "quantity_milli":
        return sum(line.quantity_milli for line in lines)
    return len(lines) if how == "lines" else int(bool(lines))


def all_gone(sale: Posting, back: Sums) -> bool:
    """Whether nothing is left of a sale that had something."""
    lines = zip(sale.line_no, sale.amount, sale.quantity_milli, strict=True)
    had = any(sale.amount) or any(sale.quantity_milli)
    return had and all(back.get(number, NOTHING) == (amount, quantity) for number, amount, quantity in lines)


def add(member: Member, counter: str, day: int, count: int) -> None:
    """Moves one counter. A date that comes to nothing stays: what fell due before may have seen something there."""
    if count:
        counts = member.counts.setdefault(counter, {})
        counts[day] = counts.get(day, 0) + count


def day_of(posting: Posting) -> int:
    """The local date of a posting."""
    return date.fromisoformat(posting.day).toordinal()
