"""The terms of spending, `[units.X.spending]`: how many points may pay a receipt.

With S the sum of all lines and G that of the goods that may be paid, points pay from ceil(S * min_percent / 100) to
min(G, floor(S * max_percent / 100)) minor units, in whole steps of `worth` and within the balance.
"""

from typing import NamedTuple

from tillstream.kernels.rules import EARNING_KINDS, matches
from tillstream.schemas.programs import Program, Spending
from tillstream.schemas.receipts import Line, Sale


class Payable(NamedTuple):
    """The least and the most points that may pay a receipt; (0, 0): none may."""

    least: int
    most: int


def payable(program: Program, unit: str, sale: Sale, balance: int) -> Payable:
    """The points of `unit` that may pay `sale` out of `balance`; without terms of spending, all that there are.

    >>> from tillstream.schemas.program_file import parse_program
    >>> from tillstream.schemas.events import decode
    >>> program = parse_program('''
    ... program = {id = "p", currency = "PLN", time_zone = "UTC"}
    ... units.points.spending = {worth = {points = 100, amount = 50}, max_percent = 40}
    ... rules = []
    ... ''').program
    >>> sale = decode(b'{"specversion":"1.0","id":"1","source":"s","type":"receipt.sale","time":"2026-03-01T00:00:00Z","data":'
    ... b'{"receipt_id":"1","store_id":"s","register_id":"1","business_date":"2026-03-01","issued_at":"2026-03-01T00:00:00Z",'
    ... b'"currency":"PLN","lines":[{"line_no":1,"sku":"x","quantity_milli":1000,"amount":999}]}}').data
    >>> payable(program, "points", sale, 10_000)
    Payable(least=0, most=700)
    """
    spending = program.units[unit].spending
    if spending is None:
        return Payable(0, max(0, balance))
    least, most = limits(spending, sale)
    most = min(most, max(0, balance) // spending.worth.points * spending.worth.points)
    return Payable(least, most) if least <= most else Payable(0, 0)


def limits(spending: Spending, sale: Sale) -> Payable:
    """The least and the most points whatever the balance; more than the most are the least where nothing may pay."""
    total = sum(line.amount for line in sale.lines)
    goods = sum(line.amount for line in sale.lines if may_be_paid(spending, line))
    worth = spending.worth
    most = min(goods, total * spending.max_percent // 100) // worth.amount
    least = -(-total * spending.min_percent // (100 * worth.amount))
    return Payable(least * worth.points, most * worth.points)


def may_be_paid(spending: Spending, line: Line) -> bool:
    """As lines are eligible for a rule: every key of `lines`, none of `exclude`; of the usual kinds unless `lines` names others."""
    wanted, unwanted = spending.lines, spending.exclude
    looked_at = ((line.sku, "sku"), (line.category, "category"), (line.brand, "brand"))
    return (
        matches(wanted.kind or EARNING_KINDS, line.kind)
        and all(matches(getattr(wanted, key), value) for value, key in looked_at)
        and not any(
            (patterns := getattr(unwanted, key)) is not None and matches(patterns, value)
            for value, key in (*looked_at, (line.kind, "kind"))
        )
    )


def beyond_terms(program: Program, sale: Sale, unit: str) -> bool:
    """Whether the tenders of `unit` in all pay what they may not: more, or less than the least, or more money than they are worth."""
    spending = program.units[unit].spending
    if spending is None:
        return False
    tenders = [tender for tender in sale.tenders if tender.type == "points" and tender.unit == unit]
    points, amount = sum(tender.points for tender in tenders), sum(tender.amount for tender in tenders)
    least, most = limits(spending, sale)
    return not least <= points <= most or amount * spending.worth.points > points * spending.worth.amount
