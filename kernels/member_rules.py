"""A program that looks at members, compiled: which rules a member's state closes, how much room it leaves, and what a sale then gives.

In: the member's state before an event, the event's columns. Out: what each rule gives, from the award kernel (sales) or `Bonuses`.
"""

from array import array
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from tillstream.kernels.asked import Asked
from tillstream.kernels.award import Awards, Kernel
from tillstream.kernels.bonuses import Bonuses
from tillstream.kernels.columns import Columns
from tillstream.kernels.counting import Counting
from tillstream.kernels.looking import Looker, Looks, narrowed
from tillstream.kernels.questions import Questions
from tillstream.kernels.room import Budgets
from tillstream.kernels.rules import CompiledRules
from tillstream.schemas.fields import INT64_MAX
from tillstream.schemas.member_state import Look, Member
from tillstream.schemas.programs import Program


def looks_at_members(program: Program) -> bool:
    """Whether the result of an event depends on what else happened to its account, or on a budget."""
    if program.tiers is not None:
        return True
    return any(
        rule.member is not None
        or rule.once is not None
        or rule.on != "receipt"
        or rule.on_return == "requalify"
        or rule.cap.per_member is not None
        or rule.cap.budget is not None
        for rule in program.rules
    )


class Given(NamedTuple):
    """What one rule gives: parallel line numbers and points, the basis that it looked at, its award before caps."""

    rule_id: str
    line_no: list[int]
    points: list[int]
    basis: int
    award: int


class MemberRules:
    """The receipt rules' conditions and caps, and the other rules, of one program; `asked` is what all versions want to be counted."""

    def __init__(self, program: Program, compiled: CompiledRules, kernel: Kernel, asked: Asked) -> None:
        self.program = program
        self.compiled = compiled
        self.kernel = kernel
        self.counting = Counting(program, compiled, asked)
        self.bonuses = Bonuses(program)
        self.rows = {rule.id: row for row, rule in enumerate(compiled.rules)}
        self.looker = Looker(compiled.words, Questions(compiled))
        rules = {rule.id: rule for rule in compiled.rules}
        self.capped = [rules[rule_id] for rule_id in compiled.rooms]
        self.requalifying = {rule.id for rule in compiled.rules if rule.on_return == "requalify"}

    def look(self, columns: Columns, members: Sequence[Member | None], days: Sequence[date], budgets: Budgets) -> Looks:
        """What the states before the sales in `columns`, of these local dates, leave; None: an anonymous sale."""
        left = [INT64_MAX if rule.cap.budget is None else min(INT64_MAX, budgets.left(rule)) for rule in self.capped]
        return self.looker.look(columns, members, days, left)

    def award(self, columns: Columns, looks: Looks) -> Awards:
        """The kernel's awards under these looks."""
        first, tender, receipt_bits, amount, quantity, line_no, line_bits, _ = columns
        open_bits = narrowed(receipt_bits, looks.closed)
        return self.kernel.award(first, tender, open_bits, amount, quantity, line_no, line_bits, looks.room)

    def looks_of(self, look: Look) -> Looks:
        """A look that the ledger kept, in columns; an empty one closes nothing."""
        closed = array("Q", look.closed or [0] * self.compiled.words)
        return Looks(closed, array("q", look.room or [INT64_MAX] * len(self.capped)))

    def look_at(self, looks: Looks, place: int) -> Look:
        """One look, as the ledger keeps it."""
        words, rooms = self.compiled.words, len(self.capped)
        return Look(looks.closed[place * words : (place + 1) * words].tolist(), looks.room[place * rooms : (place + 1) * rooms].tolist())

    def given(self, awards: Awards, place: int, line_no: Sequence[int]) -> list[Given]:
        """What the awards say of one sale with these line numbers; ask for sales in rising order."""
        return [
            Given(self.compiled.rules[row].id, [line_no[at] for at in places], points, basis, award)
            for row, basis, award, places, points in awards.given(place)
        ]
