"""What comes back of a sale: a return or void in; what it takes of grants and gives back of payments, and what is written off, out."""

from collections import defaultdict
from datetime import date
from typing import Any

from tests.oracle.earning import Books, judged, tender_shares
from tests.oracle.facts import Account, Event, Grant, Payment, Purchase, Refused
from tests.oracle.timetable import in_force
from tests.reference import undone


def come_back(books: Books, account: Account | None, sale: Purchase, event: Event, day: date) -> None:
    """Takes a return or void of `sale` up.

    Raises:
        Refused: it names a line that was not sold, or more than is left.
    """
    note_back(sale, event)
    if account is None:
        return
    units = in_force(books.programs, day)["units"]
    before = {unit: books.balance(account, unit, day) for unit in units}
    taken = reverse(books, account, sale)
    for payment in sale.payments:
        give_back(account, sale, payment)
    for unit, expires_on in taken.items():
        if units.get(unit, {}).get("negative_balance") == "clamp":
            missing = min(0, before[unit]) - books.balance(account, unit, day)
            if missing > 0:
                account.credit(unit, expires_on, missing)


def note_back(sale: Purchase, event: Event) -> None:
    """Adds what comes back to what came back before; a void brings all that is left."""
    sold = {line["line_no"]: line for line in sale.data["lines"]}
    back = dict(sale.back)
    if event["type"] == "receipt.void":
        sale.back = {number: (line["amount"], line["quantity_milli"]) for number, line in sold.items()}
        sale.voided = True
        return
    for line in event["data"]["lines"]:
        number = line["original_line_no"]
        if number not in sold:
            raise Refused("unknown_line")
        amount, milli = back.get(number, (0, 0))
        back[number] = amount + line["amount"], milli + line["quantity_milli"]
        if back[number][0] > sold[number]["amount"] or back[number][1] > sold[number]["quantity_milli"]:
            raise Refused("over_returned")
    sale.back = back


def reverse(books: Books, account: Account, sale: Purchase) -> dict[str, str]:
    """Takes from each grant what the sale's rules say; the last days of the units of which something was taken."""
    rules: dict[str, dict[str, Any]] = {rule["id"]: rule for rule in sale.program.get("rules", [])}
    again: dict[tuple[str, int | None], int] = {}
    if any(rule.get("on_return") == "requalify" for rule in rules.values()):
        again = judged_again(books, sale)
    taken: dict[str, str] = {}
    for grant in sale.grants:
        if rules[grant.rule].get("on_return") == "requalify":
            due = max(grant.taken, grant.points - again.get((grant.rule, grant.line_no), 0))
        else:
            due = undone_of(sale, grant.line_no, grant.points)
        if due > grant.taken:
            taken[grant.unit] = grant.expires_on
            take(account, grant, due - grant.taken)
    return taken


def take(account: Account, grant: Grant, points: int) -> None:
    """Pending points never came into the balance, so their reversal does not leave it."""
    grant.taken += points
    if grant.pending_until is None:
        account.credit(grant.unit, grant.expires_on, -points)


def undone_of(sale: Purchase, line_no: int | None, points: int) -> int:
    """What is undone so far of points that belong to one line."""
    line = next(line for line in sale.data["lines"] if line["line_no"] == line_no)
    if line_no not in sale.back:
        return 0
    amount, milli = sale.back[line_no]
    return undone(points, amount, line["amount"], milli, line["quantity_milli"])


def give_back(account: Account, sale: Purchase, payment: Payment) -> None:
    """Points of a tender return to the day on which they were spent, and so to their old lots."""
    due = undone_of(sale, payment.line_no, payment.points)
    account.debit(payment.unit, payment.day, payment.given_back - due)
    payment.given_back = due


def judged_again(books: Books, sale: Purchase) -> dict[tuple[str, int | None], int]:
    """Points by (rule, line) of the whole program on what is left: of each line, and of what a points tender paid of it."""
    shares = dict(zip([line["line_no"] for line in sale.data["lines"]], tender_shares(sale.data), strict=True))
    lines: list[Event] = []
    left_shares: list[int] = []
    for line in sale.data["lines"]:
        amount, milli = sale.left(line)
        if amount or milli:
            lines.append(line | {"amount": amount, "quantity_milli": milli})
            left_shares.append(shares[line["line_no"]] - undone_of(sale, line["line_no"], shares[line["line_no"]]))
    points: dict[tuple[str, int | None], int] = defaultdict(int)
    for rule, parts in judged(books, sale, sale.data | {"lines": lines}, left_shares).items():
        for place, part in parts.items():
            points[rule, lines[place]["line_no"]] += part
    return points
