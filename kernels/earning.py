"""What a sale does to its account: points spent as a tender, then points earned, one entry per line and rule."""

from collections.abc import Iterator

from tillstream.kernels.holdings import Holding, Units, spendable
from tillstream.kernels.reversal import spread
from tillstream.schemas.events import Malformed
from tillstream.schemas.ledger import Entries
from tillstream.schemas.programs import Program, Rule
from tillstream.schemas.receipts import Line, Sale

Given = list[tuple[int, int, int, list[int], list[int]]]
"""What `award.Kernel` gave one sale: (rule row, basis, award before the cap, places of the lines, points)."""


def redemptions(program: Program, sale: Sale, units: Units, day: str) -> Iterator[Entries]:
    """A points tender takes its points, spread over all lines by amount, so that a return can give them back line by line.

    Raises:
        Malformed: the tender names a unit that the program does not have.
    """
    spent: dict[str, int] = {}
    for index, tender in enumerate(sale.tenders):
        if tender.type != "points" or tender.points == 0:
            continue
        if tender.unit not in program.units:
            message = f"unit {tender.unit!r} is not one of the program's: {', '.join(program.units)}"
            raise Malformed("unknown_unit", f"$.data.tenders[{index}].unit", message)
        if not sale.lines:
            raise Malformed("invalid", f"$.data.tenders[{index}]", "points can't pay a receipt without lines")
        there = spendable(units.get(tender.unit, Holding()), day) - spent.get(tender.unit, 0)
        spent[tender.unit] = spent.get(tender.unit, 0) + tender.points
        numbers = [line.line_no for line in sale.lines]
        parts = spread(tender.points, [line.amount for line in sale.lines], numbers)
        yield Entries(
            kind="redemption",
            unit=tender.unit,
            points=[-part for part in parts if part],
            line_no=[number for number, part in zip(numbers, parts, strict=True) if part],
            spent_on=day,
            uncovered=there < tender.points,
        )


def accruals(rules: list[Rule], lines: list[Line], given: Given, expiries: dict[str, str | None]) -> Iterator[Entries]:
    """The entries of each rule that gave points; `expiries` is the last day of use per unit, for this sale's local date."""
    for row, basis, award, places, points in given:
        rule = rules[row]
        yield Entries(
            kind="accrual",
            unit=rule.unit,
            points=points,
            line_no=[lines[place].line_no for place in places],
            rule_id=rule.id,
            expires_on=expiries[rule.unit],
            basis=basis,
            award=award,
        )
