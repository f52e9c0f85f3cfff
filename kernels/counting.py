"""How events move a member's counters: what was bought, what came back, what rules gave (schemas/member_state.py, `Member.counts`).

All of it reads ledger postings only. What comes back is taken off the date of its sale, from the moment it comes back.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from tillstream.kernels.rules import CompiledRules
from tillstream.kernels.terms import SPEND, VISITS
from tillstream.kernels.tiers import counter_of
from tillstream.kernels.watching import Watching
from tillstream.schemas.ledger import Posting
from tillstream.schemas.member_state import Member
from tillstream.schemas.programs import Program

Sums = Mapping[int, tuple[int, int]]
"""Amount and quantity that came back, by line number."""


class Counting:
    """Which counters a program needs, and how a posting moves them."""

    def __init__(self, program: Program, compiled: CompiledRules) -> None:
        self.watched = [f"watch/{name}" for name in compiled.watches]
        rows = range(len(compiled.rules), len(compiled.rules) + len(compiled.watches))
        self.watching = Watching(compiled.words, [(row, name.partition(" ")[0]) for row, name in zip(rows, compiled.watches, strict=True)])
        self.rules = {rule.id: rule for rule in program.rules}
        self.points_counter = None if program.tiers is None else counter_of(program.tiers)
        self.raising = {rule.id for rule in program.rules if f"points/{rule.unit}" == self.points_counter}
        self.bounded = {rule.id: rule for rule in program.rules if rule.once is not None or rule.cap.per_member is not None}

    def counts(self, sale: Posting, back: Sums) -> list[int]:
        """What each watch counts of a sale of which `back` came back."""
        bits = sale.judged.line_bits if sale.judged is not None else []
        amounts = [amount - back.get(n, NOTHING)[0] for n, amount in zip(sale.line_no, sale.amount, strict=True)]
        quantities = [quantity - back.get(n, NOTHING)[1] for n, quantity in zip(sale.line_no, sale.quantity_milli, strict=True)]
        return self.watching.counts(array("q", amounts), array("q", quantities), array("Q", bits), 0, len(amounts))

    def bought(self, member: Member, day: int, amount: int, watched: Sequence[int]) -> None:
        """A sale, with nothing of it come back; `watched` is what each watch counts."""
        add(member, VISITS, day, 1)
        add(member, SPEND, day, amount)
        for counter, count in zip(self.watched, watched, strict=True):
            add(member, counter, day, count)

    def came_back(self, member: Member, sale: Posting, before: Sums, after: Sums, *, voided: bool) -> None:
        """What has come back of `sale` grows from `before` to `after`."""
        day = day_of(sale)
        add(member, SPEND, day, sum(before.get(n, NOTHING)[0] - after.get(n, NOTHING)[0] for n in sale.line_no))
        if (voided or all_gone(sale, after)) and not all_gone(sale, before):
            add(member, VISITS, day, -1)
        for counter, was, left in zip(self.watched, self.counts(sale, before), self.counts(sale, after), strict=True):
            add(member, counter, day, left - was)

    def gave(self, member: Member, day: int, sums: Iterable[tuple[str, int]]) -> None:
        """Rules gave points, by rule id, for the first time."""
        raising = 0
        for rule_id, points in sums:
            if rule_id in self.raising:
                raising += points
            rule = self.bounded.get(rule_id)
            if rule is None:
                continue
            if rule.once is not None and points > 0:
                member.used.setdefault(rule_id, []).append(day)
            if rule.cap.per_member is not None:
                add_given(member, rule_id, day, points)
        if self.points_counter is not None:
            add(member, self.points_counter, day, raising)

    def took_back(self, member: Member, rule_id: str, day: int, points: int) -> None:
        """A return took back points that a rule had given on `day`."""
        if rule_id in self.raising and self.points_counter is not None:
            add(member, self.points_counter, day, -points)
        rule = self.bounded.get(rule_id)
        if rule is not None and rule.cap.per_member is not None and self.gives_back(rule_id):
            add_given(member, rule_id, day, -points)

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


def add_given(member: Member, rule_id: str, day: int, points: int) -> None:
    """Moves what a rule with a cap per member gave."""
    given = member.given.setdefault(rule_id, {})
    given[day] = given.get(day, 0) + points


def day_of(posting: Posting) -> int:
    """The local date of a posting."""
    return date.fromisoformat(posting.day).toordinal()
