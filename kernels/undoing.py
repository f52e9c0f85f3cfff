"""What a return or a void does: it takes back, entry by entry, what the sale gave its lines, and gives back the points that paid them.

Per line, r being what has come back of it in all: reversed so far = floor(P * r / A), exactly P once r = A; this event's entry is the
difference (DESIGN.md §5, Return). What is still pending of an accrual is released by the same formula.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tillstream.kernels.reversal import undone
from tillstream.kernels.snapshot import Returned
from tillstream.schemas.events import Malformed
from tillstream.schemas.ledger import Entries, Posting
from tillstream.schemas.receipts import ReturnLine


class Undo(NamedTuple):
    """What comes back now, per line number of the sale, in parallel columns; and the entries that it takes back."""

    line_no: list[int]
    amount: list[int]
    quantity_milli: list[int]
    entries: list[Entries]


def undo_lines(sale: Posting, before: Returned, lines: Iterable[ReturnLine], as_of: str | None) -> Undo:
    """A return of `lines`, judged when the latest tick was `as_of`.

    Raises:
        Malformed: a line that the sale does not have, or more than was bought, in all.
    """
    bought = {number: (a, q) for number, a, q in zip(sale.line_no, sale.amount, sale.quantity_milli, strict=True)}
    now: dict[int, tuple[int, int]] = {}
    for index, line in enumerate(lines):
        number = line.original_line_no
        if number not in bought:
            message = f"the sale {sale.receipt_id!r} has no line {number}"
            raise Malformed("unknown_line", f"$.data.lines[{index}].original_line_no", message)
        amount, quantity = now.get(number, (0, 0))
        now[number] = amount + line.amount, quantity + line.quantity_milli
        for field, total, limit in (
            ("amount", now[number][0] + before.amount.get(number, 0), bought[number][0]),
            ("quantity_milli", now[number][1] + before.quantity_milli.get(number, 0), bought[number][1]),
        ):
            if total > limit:
                message = f"{total} returned of line {number} in all, {limit} were bought"
                raise Malformed("over_returned", f"$.data.lines[{index}].{field}", message)
    return _undo(sale, before, now, as_of)


def undo_rest(sale: Posting, before: Returned, as_of: str | None) -> Undo:
    """A void: everything that has not come back yet."""
    now = {
        number: (amount - before.amount.get(number, 0), quantity - before.quantity_milli.get(number, 0))
        for number, amount, quantity in zip(sale.line_no, sale.amount, sale.quantity_milli, strict=True)
    }
    return _undo(sale, before, now, as_of)


def _undo(sale: Posting, before: Returned, now: dict[int, tuple[int, int]], as_of: str | None) -> Undo:
    bought = {number: (a, q) for number, a, q in zip(sale.line_no, sale.amount, sale.quantity_milli, strict=True)}

    def due(number: int, points: int) -> int:
        amount, quantity = now[number]
        bought_amount, bought_quantity = bought[number]
        returned_amount = amount + before.amount.get(number, 0)
        returned_quantity = quantity + before.quantity_milli.get(number, 0)
        return undone(points, returned_amount, bought_amount, returned_quantity, bought_quantity)

    entries = []
    for first, group in numbered(sale.entries, as_of):
        points, line_no, reverses = [], [], []
        for index, (number, given) in enumerate(zip(group.line_no, group.points, strict=False)):
            entry = first + index
            part = due(number, abs(given)) - before.points.get(entry, 0) if number in now else 0
            if part:
                points.append(-part if given > 0 else part)
                line_no.append(number)
                reverses.append(entry)
        if points:
            entries.append(reversal(group, points, line_no, reverses))
    columns = zip(*now.values(), strict=True) if now else ((), ())
    amounts, quantities = (list(column) for column in columns)
    return Undo(list(now), amounts, quantities, entries)


def numbered(groups: list[Entries], as_of: str | None) -> Iterator[tuple[int, Entries]]:
    """Each group that is undone with the number of its first entry.

    Expiry and releases are nobody's line; what was pending and has been released as of the latest tick is not released again.
    """
    first = 0
    for group in groups:
        ended = group.until is not None and as_of is not None and group.until < as_of
        if group.kind not in {"expiry", "release"} and not ended:
            yield first, group
        first += len(group.points)


def reversal(group: Entries, points: list[int], line_no: list[int], reverses: list[int]) -> Entries:
    """The correcting entries, in the lot or on the day of spending that they undo."""
    return Entries(
        kind="release" if group.kind == "hold" else "reversal",
        unit=group.unit,
        points=points,
        line_no=line_no,
        rule_id=group.rule_id,
        expires_on=group.expires_on,
        spent_on=group.spent_on,
        reverses=reverses,
        until=group.until,
    )
