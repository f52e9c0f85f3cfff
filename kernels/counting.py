"""How returns move a member's counters, and what moves them by sales (moving.pyx; schemas/member_state.py, `Member.counts`).

All of it reads ledger postings only. What comes back is taken off the date of its sale, from the moment it comes back.
"""

from collections.abc import Mapping
from datetime import date

from tillstream.kernels.asked import Asked
from tillstream.kernels.earning import holding_days
from tillstream.kernels.moving import Mover
from tillstream.kernels.posted import columns_of
from tillstream.kernels.rules import CompiledRules
from tillstream.kernels.terms import PURCHASES, SPEND, VISITS
from tillstream.kernels.watching import Watching
from tillstream.schemas.ledger import Posting
from tillstream.schemas.member_state import Member
from tillstream.schemas.programs import Program

Sums = Mapping[int, tuple[int, int]]
"""Amount and quantity that came back, by line number."""


class Counting:
    """Which counters the versions of a program need, and how what one of them judges moves them."""

    def __init__(self, program: Program, compiled: CompiledRules, asked: Asked) -> None:
        self.compiled = compiled
        self.asked = asked
        self.watched = [f"watch/{name}" for name in compiled.watches]
        rows = range(len(compiled.rules), len(compiled.rules) + len(compiled.watches))
        watches = [(row, name.partition(" ")[0]) for row, name in zip(rows, compiled.watches, strict=True)]
        self.watching = Watching(compiled.words, watches, compiled.others)
        self.rules = {rule.id: rule for rule in program.rules}
        others = [rule for rule in program.rules if rule.on != "receipt"]
        self.mover = Mover([*compiled.rules, *others], self.watched, asked, holding_days(program))

    def came_back(self, member: Member, sale: Posting, before: Sums, after: Sums, *, voided: bool) -> None:
        """What has come back of `sale` grows from `before` to `after`."""
        day = day_of(sale)
        add(member, SPEND, day, sum(before.get(n, NOTHING)[0] - after.get(n, NOTHING)[0] for n in sale.line_no))
        if (voided or all_gone(sale, after)) and not all_gone(sale, before):
            add(member, VISITS, day, -1)
        if voided:
            add(member, PURCHASES, day, -1)
        was, left = (self.watching.over(columns_of(sale, self.compiled, back)).counts(0) for back in (before, after))
        for counter, count, remains in zip(self.watched, was, left, strict=True):
            add(member, counter, day, remains - count)

    def took_back(self, member: Member, rule_id: str, day: int, points: int) -> None:
        """A return took back points that a rule had given on `day`."""
        self.mover.took_back(member, rule_id, day, points, makes_room=self.gives_back(rule_id))

    def gives_back(self, rule_id: str) -> bool:
        """Whether what returns take back of a rule's points makes room again."""
        rule = self.rules.get(rule_id)
        return rule is not None and rule.cap.on_return == "give_back"


NOTHING = (0, 0)


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
