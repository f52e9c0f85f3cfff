"""Points spent or moved: tenders, holds, redemptions, adjustments, transfers, exchanges, in; debits and credits on accounts, out."""

from datetime import date, datetime
from typing import Any

from tests.oracle.calendar import DAY, expiry_of
from tests.oracle.earning import Books, allowed, grant
from tests.oracle.facts import Account, Event, Hold, Moment, Payment, Purchase, Refused
from tests.oracle.timetable import in_force
from tests.reference import applies, spread


def unit_of(books: Books, data: Event, day: date) -> dict[str, Any]:
    """The unit that an event names.

    Raises:
        Refused: no program in force on `day` knows it.
    """
    program = in_force(books.programs, day)
    unit: dict[str, Any] | None = program["units"].get(data.get("unit", "points"))
    if unit is None:
        raise Refused("unknown_unit")
    return unit


def check_covered(account: Account, data: Event, day: date, kept: int = 0) -> None:
    """
    Raises:
        Refused: what the event asks for beyond `kept` is more than can be used on `day`.
    """
    if data["points"] > kept and account.units[data.get("unit", "points")].balance(f"{day}") < data["points"] - kept:
        raise Refused("insufficient")


def hold(books: Books, account: Account, data: Event, day: date) -> None:
    unit_of(books, data, day)
    check_covered(account, data, day)
    expires_at = datetime.fromisoformat(data["expires_at"]).astimezone(books.zone)
    unit = data.get("unit", "points")
    account.holds[data["hold_id"]] = Hold(unit, data["points"], day, expires_at.date())
    account.debit(unit, day, data["points"])
    if data["hold_id"] in account.holds_ended:
        end_hold(account, data["hold_id"])


def end_hold(account: Account, hold_id: str | None) -> Hold | None:
    """Gives the whole hold back, if it is open: its points find their old lots. It ends once."""
    if hold_id is None:
        return None
    account.holds_ended.add(hold_id)
    there = account.holds.get(hold_id)
    if there is None or not there.is_open:
        return None
    there.is_open = False
    account.debit(there.unit, there.day, -there.points)
    return there


def capture(account: Account, hold_id: str | None, unit: str, day: date) -> Hold | None:
    """Ends the hold that pays on `day`, if there is one: after its last day nothing can be taken out of it, and it waits for its end."""
    there = account.holds.get(hold_id or "")
    if there is not None and (there.unit != unit or day > there.last_day):
        return None
    return end_hold(account, hold_id)


def redeem(books: Books, account: Account, data: Event, day: date) -> None:
    """A hold's points are spent as of the day on which they were held."""
    unit_of(books, data, day)
    unit, there = data.get("unit", "points"), account.holds.get(data.get("hold_id") or "")
    opens = there is not None and there.is_open and there.unit == unit and day <= there.last_day
    check_covered(account, data, day, there.points if there is not None and opens else 0)
    ended = capture(account, data.get("hold_id"), unit, day)
    account.debit(unit, ended.day if ended else day, data["points"])


def adjust(books: Books, account: Account, data: Event, day: date) -> None:
    unit = unit_of(books, data, day)
    if data["points"] > 0:
        account.credit(data.get("unit", "points"), data.get("expires_on") or expiry_of(unit, day), data["points"])
    else:
        account.debit(data.get("unit", "points"), day, -data["points"])


def transfer(books: Books, giver: Account, receiver: Account | None, data: Event, day: date) -> None:
    """`receiver` is None where the two are not of one household."""
    unit_of(books, data, day)
    if receiver is None:
        raise Refused("not_household")
    check_covered(giver, data, day)
    unit = data.get("unit", "points")
    lots = giver.units[unit].taken(f"{day}", data["points"])
    giver.debit(unit, day, data["points"])
    for expires_on, points in lots.items():
        receiver.credit(unit, expires_on, points)


def pay(account: Account, sale: Purchase) -> None:
    """Points tenders: captures of their holds, or redemptions at the till, spread over all lines by amount."""
    lines = sale.data["lines"]
    for tender in sale.data.get("tenders", []):
        if tender["type"] == "points":
            unit = tender.get("unit", "points")
            ended = capture(account, tender.get("hold_id"), unit, sale.day)
            parts = spread(tender["points"], [line["amount"] for line in lines], [line["line_no"] for line in lines])
            for line, points in zip(lines, parts, strict=True):
                payment = Payment(unit, ended.day if ended else sale.day, line["line_no"], points)
                sale.payments.append(payment)
                account.debit(payment.unit, payment.day, points)


def exchange(books: Books, account: Account, moment: Moment) -> bool:
    """Rules `on = "balance"`, in their order, while there is enough; whether any took something."""
    program = in_force(books.programs, moment.day)
    seen = Moment(moment.at, "balance", moment.source, moment.origin, account.tier or "")
    any_taken = False
    for rule in program["rules"]:
        if rule.get("on") != "balance":
            continue
        unit, points = rule["exchange"]["unit"], rule["exchange"]["points"]
        instant = {"issued_at": moment.at.isoformat(), "lines": [], "store_id": ""}
        while account.units[unit].balance(f"{moment.day}") >= points:
            if not applies(rule, instant, books.zone) or not allowed(account, rule, seen):
                break
            account.debit(unit, moment.day, points)
            grant(account, program, rule, seen, None, int(rule["award"]["fixed"]))
            any_taken = True
    return any_taken


def expired_holds(account: Account, day: date) -> list[str]:
    """Open holds whose last day was yesterday."""
    return [hold_id for hold_id, there in account.holds.items() if there.is_open and there.last_day + DAY == day]
