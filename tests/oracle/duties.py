"""What falls due by itself at midnight of a day, and what follows from any event: exchanges, tiers, and bonuses for them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from datetime import time as clock_time

from tests.oracle import tiers
from tests.oracle.calendar import DAY, period_of
from tests.oracle.earning import Books, earn_event
from tests.oracle.facts import Account, Event, Moment, Purchase
from tests.oracle.spending import end_hold, exchange, expired_holds
from tests.oracle.timetable import in_force
from tests.reference import eligible


def midnight(books: Books, account: Account, day: date) -> None:
    """Everything of one account that is due on `day`, before any event of that day.

    1. Holding periods end. 2. Holds lapse. 3. A tier's window ends. 4. It is the member's birthday. 5. A period is judged. What is merged
    into another account rests: 3. to 5. are that one's.
    """
    moment = Moment(datetime.combine(day, clock_time(), books.zone), "due", "", f"{day}")
    ripe = [grant for grant in account.grants if grant.pending_until == day]
    for grant in ripe:  # 1.
        grant.pending_until = None
        account.credit(grant.unit, grant.expires_on, grant.left)
    lapsed = expired_holds(account, day)
    for hold_id in lapsed:  # 2.
        end_hold(account, hold_id)
    program = in_force(books.programs, day)
    decided = account.into is None and "tiers" in program and tiers.window_is_over(account, day)
    if decided:  # 3.
        tiers.decide(account, program["tiers"], day)
    if ripe or lapsed or decided:  # A midnight at which nothing is due is no event.
        aftermath(books, account, moment, earns=decided)
    if account.into is not None:
        return
    for person in sorted(account.said):
        if is_birthday(account, person, day) and any(rule.get("on") == "birthday" for rule in program["rules"]):  # 4.
            bonus(books, account, Moment(moment.at, "birthday", "", f"birthday {day}", person=person))
    counts = period_counts(books, account, day)  # 5.
    if counts:
        bonus(books, account, Moment(moment.at, "period_end", "", f"period_end {day}", data={"counts": counts}))


def bonus(books: Books, account: Account, moment: Moment) -> None:
    """An event that is no receipt earns, and what follows from it follows."""
    earn_event(books, account, as_member(books, account, moment))
    aftermath(books, account, moment, earns=True)


def as_member(books: Books, account: Account, moment: Moment) -> Moment:
    """The moment with the tier that the account has now."""
    program = in_force(books.programs, moment.day)
    if "tiers" in program:
        tiers.start(account, program["tiers"])
    return replace(moment, tier=account.tier or "")


def aftermath(books: Books, account: Account, moment: Moment, *, earns: bool) -> None:
    """Rises, each level passed an event of its own, until nothing moves; then exchanges, by the tier that was reached.

    What comes back and what is spent raises nobody, also not to the levels of a version that has begun meanwhile.
    """
    program = in_force(books.programs, moment.day)
    while levels := tiers.risen(account, program["tiers"], moment.day) if earns and "tiers" in program else []:
        for level in levels:
            earn_event(books, account, Moment(moment.at, "tier_up", moment.source, moment.origin, level))
    while exchange(books, account, moment):
        pass


def is_birthday(account: Account, person: str, day: date) -> bool:
    """By the person's latest enrolment before this midnight; 02-29 is the 28th in common years."""
    text = account.said[person].get("birth_date")
    if text is None:
        return False
    born = date.fromisoformat(text)
    leaps = (born.month, born.day) == (2, 29) and (day + timedelta(days=1)).month == 3 and (day.month, day.day) == (2, 28)
    return leaps or (born.month, born.day) == (day.month, day.day)


def period_counts(books: Books, account: Account, day: date) -> dict[str, int]:
    """What each target rule whose period is due on `day` counts; periods without any sale are not judged.

    A period is judged on the first day after its last one, or `offset_days` later.
    """
    counts: dict[str, int] = {}
    for rule in in_force(books.programs, day)["rules"]:
        if rule.get("on") == "period_end":
            target = rule["target"]
            end = day - DAY - timedelta(days=target.get("offset_days", 0))
            first, last = period_of(end, target["per"])
            sales = [sale for sale in account.all_purchases if first <= sale.day <= last]
            if last == end and sales:
                counts[rule["id"]] = sum(counted(rule, sale, target.get("count", "amount")) for sale in sales)
    return counts


def counted(rule: Event, sale: Purchase, count: str) -> int:
    """What is left of a sale's eligible lines: amount or thousandths, or 1 where anything of them is left."""
    left = [sale.left(sale.data["lines"][i]) for i in eligible(rule, sale.data["lines"])]
    if count == "visits":
        return int(not sale.gone and any(any(parts) for parts in left))
    return sum(amount if count == "amount" else milli for amount, milli in left)


def join(books: Books, account: Account, other: Account, moment: Moment) -> None:
    """`other` is merged into an account: from now on rules look there at both, and wherever this one is merged itself. A tier that all
    together reach is reached now.
    """
    program = in_force(books.programs, moment.day)
    account.joined.append(other)
    account.brought[other.id] = other.published.get(other.id, {})
    other.into = account
    root = account
    for above in chain(account):
        root = above
        if "tiers" in program:
            tiers.adopt(above, other, program["tiers"])
        elif not above.tier:
            above.tier, above.tier_last = other.tier, other.tier_last
    aftermath(books, root, moment, earns=True)


def chain(account: Account) -> Iterator[Account]:
    """An account, the one that it is merged into, and so on."""
    yield account
    while account.into is not None:
        account = account.into
        yield account


def part(books: Books, account: Account, other: Account, moment: Moment) -> None:
    """`other` is its own account again; the windows of its tier that ended meanwhile are decided now."""
    account.joined.remove(other)
    account.brought.pop(other.id)
    other.into = None
    program = in_force(books.programs, moment.day)
    if "tiers" in program:
        tiers.start(other, program["tiers"])
    while "tiers" in program and other.tier_last is not None and other.tier_last < min(moment.day, books.as_of or date.min):
        tiers.decide(other, program["tiers"], other.tier_last + DAY)
