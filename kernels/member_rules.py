"""A program that looks at members, compiled: which rules a member's state closes, how much room it leaves, and what a sale then gives.

In: the member's state before an event, the event's columns. Out: what each rule gives, from the award kernel (sales) or `Bonuses`.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tillstream.kernels.award import Awards, Kernel
from tillstream.kernels.bonuses import Bonuses
from tillstream.kernels.columns import Columns
from tillstream.kernels.counting import Counting
from tillstream.kernels.reversal import spread, undone
from tillstream.kernels.room import Budgets, room_of
from tillstream.kernels.rules import CompiledRules
from tillstream.kernels.terms import Moment, conditions_of, first_failing
from tillstream.schemas.fields import INT64_MAX
from tillstream.schemas.ledger import Posting
from tillstream.schemas.member_state import Judged, Member
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


class Look(NamedTuple):
    """What a member's state means for one sale: rules that it closes, and the most that others may give, by id."""

    closed: list[str]
    room: dict[str, int]


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
        self.conditions = [(rule.id, found) for rule in compiled.rules if (found := conditions_of(rule))]
        self.capped = [rule for rule in compiled.rules if rule.id in compiled.rooms]
        self.requalifying = {rule.id for rule in compiled.rules if rule.on_return == "requalify"}

    def look(self, member: Member, moment: Moment, budgets: Budgets) -> Look:
        """What the state before a sale leaves."""
        closed = [rule_id for rule_id, conditions in self.conditions if first_failing(conditions, member, moment) is not None]
        return Look(closed, {rule.id: room_of(rule, member, moment, budgets) for rule in self.capped})

    def award(self, columns: Columns, looks: Sequence[Look | None]) -> Awards:
        """The kernel's awards under these looks; None: an anonymous sale, whose awards nobody asks for."""
        words = self.compiled.words
        room = array("q", bytes(8 * len(looks) * len(self.compiled.rooms)))
        for place, look in enumerate(looks):
            if look is None:
                continue
            for rule_id in look.closed:
                row = self.rows[rule_id]
                columns.receipt_bits[place * words + row // 64] &= ~(1 << row % 64) & (1 << 64) - 1
            for column, rule_id in enumerate(self.compiled.rooms):
                room[place * len(self.compiled.rooms) + column] = look.room.get(rule_id, INT64_MAX)
        return self.kernel.award(*columns[:-1], room)

    def given(self, awards: Awards, place: int, line_no: Sequence[int]) -> list[Given]:
        """What the awards say of one sale with these line numbers; ask for sales in rising order."""
        return [
            Given(self.compiled.rules[row].id, [line_no[at] for at in places], points, basis, award)
            for row, basis, award, places, points in awards.given(place)
        ]


def judged_of(columns: Columns, words: int) -> list[Judged]:
    """What the sales in `columns` are to the rules, before any look at their members."""
    result = []
    for place in range(len(columns.tender)):
        first, last = columns.first[place], columns.first[place + 1]
        receipt_bits = columns.receipt_bits[place * words : (place + 1) * words].tolist()
        result.append(Judged(receipt_bits, columns.line_bits[first * words : last * words].tolist(), columns.tender[place]))
    return result


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
