"""Points that pay: how a sale's tender or a reward takes them, out of a hold or out of the balance.

A tender is spread over all lines by amount, so that a return can give it back line by line (docs/adr/0007). A hold is released as a whole
first; what is captured counts on the hold's own date, on which its lots could be used.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from tillstream.kernels.holdings import Holding, Units, copied, spendable
from tillstream.kernels.payable import beyond_terms
from tillstream.kernels.reversal import spread
from tillstream.kernels.set_aside import release_of
from tillstream.kernels.snapshot import move
from tillstream.schemas.events import Malformed
from tillstream.schemas.ledger import Entries
from tillstream.schemas.programs import Program
from tillstream.schemas.receipts import Sale


class Taking(NamedTuple):
    """How points are taken: what is released first, and what the entries that take them share."""

    released: list[Entries]
    kind: Literal["capture", "redemption"]
    spent_on: str
    hold_id: str | None


def taking(units: Units, unit: str, hold_id: str | None, day: str) -> Taking:
    """Takes out of the hold `hold_id` on local date `day`, or out of the balance where there is no such hold of this unit any more.

    A hold cannot be taken after its last day, whether a tick has released it yet or not: so the order of ticks and sales does not matter.
    An unknown hold's id stays on the entries; by it the hold is known to have ended, should it come later.
    """
    if hold_id is None:
        return Taking([], "redemption", day, None)
    for name, holding in units.items():
        hold = holding.holds.get(hold_id)
        if hold is None:
            continue
        if name != unit or not hold.day or day > hold.until:
            return Taking([], "redemption", day, None)
        return Taking([release_of(unit, hold_id, hold)] if hold.points else [], "capture", hold.day, hold_id)
    return Taking([], "redemption", day, hold_id)


def tender_entries(program: Program, sale: Sale, units: Units, day: str) -> Iterator[Entries]:
    """What the points tenders of a sale take, in their order.

    Raises:
        Malformed: a tender names a unit that the program does not have, or the receipt has no lines.
    """
    tenders = [(index, tender) for index, tender in enumerate(sale.tenders) if tender.type == "points" and tender.points]
    if not tenders:
        return
    after = copied(units)
    numbers = [line.line_no for line in sale.lines]
    for index, tender in tenders:
        check_unit(program, tender.unit, f"$.data.tenders[{index}].unit")
        if not sale.lines:
            raise Malformed("invalid", f"$.data.tenders[{index}]", "points can't pay a receipt without lines")
        how = taking(after, tender.unit, tender.hold_id, day)
        for released in how.released:
            move(after, released)
            yield released
        there = spendable(after.get(tender.unit, Holding()), how.spent_on)
        parts = spread(tender.points, [line.amount for line in sale.lines], numbers)
        taken = Entries(
            kind=how.kind,
            unit=tender.unit,
            points=[-part for part in parts if part],
            line_no=[number for number, part in zip(numbers, parts, strict=True) if part],
            spent_on=how.spent_on,
            uncovered=there < tender.points,
            beyond_terms=beyond_terms(program, sale, tender.unit),
            hold_id=how.hold_id,
        )
        move(after, taken)
        yield taken


def check_unit(program: Program, unit: str, path: str) -> None:
    """Raises Malformed where the program does not have a unit."""
    if unit not in program.units:
        message = f"unit {unit!r} is not one of the program's: {', '.join(program.units)}"
        raise Malformed("unknown_unit", path, message)
