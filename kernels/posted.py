"""Sales between the kernel's columns and the ledger: what is kept of columns, and columns of what was kept."""

from array import array
from collections.abc import Mapping

from msgspec import structs

from tillstream.kernels.columns import Columns
from tillstream.kernels.reversal import spread, undone
from tillstream.kernels.rules import CompiledRules
from tillstream.schemas.ledger import Posting
from tillstream.schemas.member_state import Judged


def judged_at(columns: Columns, compiled: CompiledRules, place: int) -> Judged:
    """What the sale at `place` is to the rules, before any look at its member."""
    words = compiled.words
    first, last = columns.first[place], columns.first[place + 1]
    receipt_bits = columns.receipt_bits[place * words : (place + 1) * words].tolist()
    line_bits = columns.line_bits[first * words : last * words].tolist()
    return Judged(receipt_bits, line_bits, columns.tender[place], others=compiled.others)


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


def columns_of(sale: Posting, compiled: CompiledRules, back: Mapping[int, tuple[int, int]] | None = None) -> Columns:
    """The kernel's columns of a posted sale, less what came `back` of its lines; lines of which nothing is left are gone."""
    words, judged = compiled.words, aligned(sale.judged or Judged(), compiled)
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


def aligned(judged: Judged, compiled: CompiledRules) -> Judged:
    """The bits of a sale in the rows that its version has now: what other versions watch for may have changed since it was judged.

    What none looked for then has no bit.
    """
    if judged.others == compiled.others:
        return judged
    own = len(compiled.rules) + len(compiled.watches) - len(compiled.others)
    rows = [(own + row, own + compiled.others.index(name)) for row, name in enumerate(judged.others) if name in compiled.others]
    then = len(judged.receipt_bits)

    def moved(bits: list[int]) -> list[int]:
        result: list[int] = []
        for first in range(0, len(bits), then):
            there = sum(word << 64 * place for place, word in enumerate(bits[first : first + then]))
            now = there & ((1 << own) - 1) | sum((there >> old & 1) << new for old, new in rows)
            result += [now >> 64 * place & (1 << 64) - 1 for place in range(compiled.words)]
        return result

    return structs.replace(judged, receipt_bits=moved(judged.receipt_bits), line_bits=moved(judged.line_bits), others=compiled.others)
