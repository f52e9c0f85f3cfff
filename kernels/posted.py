"""Sales between the kernel's columns and the ledger: what is kept of columns, and columns of what was kept."""

from array import array
from collections.abc import Mapping

from tillstream.kernels.columns import Columns
from tillstream.kernels.reversal import spread, undone
from tillstream.schemas.ledger import Posting
from tillstream.schemas.member_state import Judged


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
