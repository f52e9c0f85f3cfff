"""A program that looks at members, compiled: which rules a member's state closes, how much room it leaves, and what a sale then gives.

In: the member's state before an event, the event's columns. Out: what each rule gives, from the award kernel (sales) or `Bonuses`.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple

from tillstream.kernels.award import Awards, Kernel
from tillstream.kernels.bonuses import Bonuses
from tillstream.kernels.columns import Columns
from tillstream.kernels.counting import Counting
from tillstream.kernels.looking import Looker, Looks, narrowed
from tillstream.kernels.questions import Questions
from tillstream.kernels.reversal import spread, undone
from tillstream.kernels.room import Budgets
from tillstream.kernels.rules import CompiledRules
from tillstream.schemas.fields import INT64_MAX
from tillstream.schemas.ledger import Posting
from tillstream.schemas.member_state import Judged, Look, Member
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
    """The receipt rules' conditions and caps, and the other rules, of one program."""

    def __init__(self, program: Program, compiled: CompiledRules, kernel: Kernel) -> None:
        self.program = program
        self.compiled = compiled
        self.kernel = kernel
        self.counting = Counting(program, compiled)
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
        first, tender, receipt_bits, *lines, _ = columns
        return self.kernel.award(first, tender, narrowed(receipt_bits, looks.closed), *lines, looks.room)

    def looks_of(self, look: Look) -> Looks:
        """A look that the ledger kept, in columns; an empty one closes nothing."""
        closed = array("Q", look.closed or [0] * self.compiled.words)
        return Looks(closed, array("q", look.room or [INT64_MAX] * len(self.capped)))

    def look_at(self, looks: Looks, place: int, given: Iterable[str]) -> Look | None:
        """What the ledger keeps of a look: nothing where none of the rules that gave something is judged again on a return."""
        if self.requalifying.isdisjoint(given):
            return None
        words, rooms = self.compiled.words, len(self.capped)
        return Look(looks.closed[place * words : (place + 1) * words].tolist(), looks.room[place * rooms : (place + 1) * rooms].tolist())

    def given(self, awards: Awards, place: int, line_no: Sequence[int]) -> list[Given]:
        """What the awards say of one sale with these line numbers; ask for sales in rising order."""
        return [
            Given(self.compiled.rules[row].id, [line_no[at] for at in places], points, basis, award)
            for row, basis, award, places, points in awards.given(place)
        ]


def judged_at(columns: Columns, words: int, place: int) -> Judged:
    """What the sale at `place` is to the rules, before any look at its member."""
    first, last = columns.first[place], columns.first[place + 1]
    receipt_bits = columns.receipt_bits[place * words : (place + 1) * words].tolist()
    return Judged(receipt_bits, columns.line_bits[first * words : last * words].tolist(), columns.tender[place])


def one_of(columns: Columns, words: int, place: int) -> Columns:
    """The sale at `place` by itself."""
    first, last = columns.first[place], columns.first[place + 1]
    return Columns(
        array("q", [0, last - first]),
        columns.tender[place : place + 1],
        columns.receipt_bits[place * words : (place + 1) * words],
        columns.amount[first:last],
        columns.quantity[first:last],
        columns.line_no[first:last],
        columns.line_bits[first * words : last * words],
        columns.dates[place : place + 1],
    )


def tender_back(sale: Posting, tender: int, back: Mapping[int, tuple[int, int]]) -> int:
    """The money of a points tender that went back with the lines it paid: its share of each, in proportion."""
    if not tender or not back:
        return 0
    shares = zip(sale.line_no, sale.amount, sale.quantity_milli, spread(tender, sale.amount, sale.line_no), strict=True)
    return sum(undone(share, back[n][0], amount, back[n][1], quantity) for n, amount, quantity, share in shares if n in back)


def columns_of(sale: Posting, words: int, back: Mapping[int, tuple[int, int]] | None = None) -> Columns:
    """The kernel's columns of a posted sale, less what came `back` of its lines; lines of which nothing is left are gone."""
    judged = sale.judged or Judged()
    back = back or {}
    rows = [
        (amount - back.get(number, (0, 0))[0], quantity - back.get(number, (0, 0))[1], number, place)
        for place, (number, amount, quantity) in enumerate(zip(sale.line_no, sale.amount, sale.quantity_milli, strict=True))
        if number not in back or back[number] != (amount, quantity)
    ]
    return Columns(
        array("q", [0, len(rows)]),
        array("q", [judged.tender - tender_back(sale, judged.tender, back)]),
        array("Q", judged.receipt_bits),
        array("q", [amount for amount, *_ in rows]),
        array("q", [quantity for _, quantity, *_ in rows]),
        array("q", [number for *_, number, _ in rows]),
        array("Q", [word for *_, place in rows for word in judged.line_bits[place * words : (place + 1) * words]]),
        [],
    )
