"""A history in, its outcome out: day by day, at midnight what falls due, then the events of the day in their order."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from operator import attrgetter
from typing import Any

from tests.oracle.calendar import DAY
from tests.oracle.duties import aftermath, as_member, bonus, join, midnight, part
from tests.oracle.earning import Books, earn_receipt
from tests.oracle.facts import Account, Event, Moment, Program, Purchase, Refused
from tests.oracle.history import (
    MERGES,
    AccountOf,
    History,
    Placed,
    arranged,
    changes,
    identities,
    in_the_end,
    person_of,
    receipt_of,
    sale_of,
)
from tests.oracle.returning import come_back
from tests.oracle.spending import adjust, end_hold, hold, pay, redeem, transfer
from tests.oracle.timetable import in_force, zone_of

SPENDING: dict[str, Callable[[Books, Account, Event, date], None]] = {"points.hold": hold, "points.redeem": redeem, "points.adjust": adjust}

EARNING = ("receipt.sale", "member.enrolled")

NetKey = tuple[str, str, str, int | None, str]
Unit = dict[str, Any]


@dataclass
class Outcome:
    """`net` is what rules gave less what was taken, per (account, source, receipt or event, line, rule), zeros left out.

    `granted` is what budgets have spent; `rejected` maps the id of an event to its code.
    """

    accounts: dict[str, dict[str, Unit]]
    net: dict[NetKey, int]
    tiers: dict[str, str]
    granted: dict[str, int]
    duplicates: int
    waiting: int
    rejected: dict[str, str] = field(default_factory=dict)


def outcome(programs: list[Program], events: list[Event], account_of: AccountOf | None = None) -> Outcome:
    """What the events give under the programs. `account_of` says whose an event is, where households or merges have a say."""
    history = arranged(events)
    run = Run(Books(programs, zone_of(programs), history.as_of, in_the_end(history)), history, account_of or identities(history))
    return run.result()


class Run:
    """One pass over a history."""

    def __init__(self, books: Books, history: History, account_of: AccountOf) -> None:
        self.books = books
        self.history = history
        self.account_of = account_of
        self.sales: dict[tuple[str, str], tuple[Account | None, Purchase]] = {}
        self.rejected = dict(history.refused)
        self.returns: set[tuple[str, str]] = set()
        self.waiting = 0
        self.persons_enrolled: set[str] = set()
        self.merging = changes(history)

    def result(self) -> Outcome:
        by_day: dict[date, list[Placed]] = defaultdict(list)
        merges = [placed for placed, *_ in self.merging]
        for placed in sorted([*merges, *self.history.placed], key=attrgetter("instant")):
            by_day[placed.instant.astimezone(self.books.zone).date()].append(placed)
        days = [*by_day, *([self.history.as_of] if self.history.as_of and by_day else [])]
        day = min(days, default=date.max)
        while day <= max(days, default=date.min):
            if self.books.is_due(day):
                for _, account in sorted(self.books.accounts.items()):
                    midnight(self.books, account, day)
            for placed in by_day.get(day, []):
                self.take(placed)
            day += DAY
        return self.summary()

    def take(self, placed: Placed) -> None:
        """One event; a refused one changes nothing."""
        event = placed.event
        moment = Moment(placed.instant.astimezone(self.books.zone), event["type"], event["source"], event["id"], data=event["data"])
        try:
            if event["type"] in MERGES:
                account = None
                self.merge(placed, moment)
            elif event["type"].startswith("receipt."):
                account = self.sell(event, moment) if event["type"] == "receipt.sale" else self.come_back(event, moment)
            else:
                account = self.books.account(self.account_of(event) or "")
                self.happen(account, event, moment)
        except Refused as problem:
            self.rejected[event["id"]] = str(problem)
        else:
            if account is not None:
                aftermath(self.books, account, moment, earns=event["type"] in EARNING or event["type"].startswith("activity."))

    def merge(self, placed: Placed, moment: Moment) -> None:
        """An account is another one's part from now on, or no longer."""
        for _, name, before, after in (change for change in self.merging if change[0] is placed):
            if before is not None:
                part(self.books, self.books.account(before), self.books.account(name), moment)
            if after is not None:
                join(self.books, self.books.account(after), self.books.account(name), moment)

    def sell(self, event: Event, moment: Moment) -> Account | None:
        self.check_sale(event["data"], moment.day)
        name = self.account_of(event)
        sale = Purchase(event["source"], event["data"], moment.day)
        account = None if name is None else self.books.account(name)
        self.sales[receipt_of(event)] = account, sale
        if account is not None:
            account.purchases.append(sale)
            seen = Moment(moment.at, "receipt", event["source"], event["data"]["receipt_id"], purchase=sale)
            earn_receipt(self.books, account, sale, as_member(self.books, account, seen))
            pay(account, sale)
        return account

    def check_sale(self, data: Event, day: date) -> None:
        """
        Raises:
            Refused: another currency, or a tender in an unknown unit.
        """
        program = in_force(self.books.programs, day)
        if data["currency"] != program["program"]["currency"]:
            raise Refused("currency")
        if any(tender["type"] == "points" and tender.get("unit", "points") not in program["units"] for tender in data.get("tenders", [])):
            raise Refused("unknown_unit")

    def come_back(self, event: Event, moment: Moment) -> Account | None:
        sale = sale_of(event)
        if sale is not None and sale not in self.sales and sale not in self.returns:
            self.waiting += 1
            return None
        if sale is None or sale in self.returns:
            raise Refused("not_a_sale")
        account, purchase = self.sales[sale]
        come_back(self.books, account, purchase, event, moment.day)
        if event["type"] == "receipt.return":
            self.returns.add(receipt_of(event))
        return account

    def happen(self, account: Account, event: Event, moment: Moment) -> None:
        """Everything that is no receipt."""
        kind, data = event["type"], event["data"]
        if kind in SPENDING:
            SPENDING[kind](self.books, account, data, moment.day)
        elif kind == "points.release":
            end_hold(account, data["hold_id"])
        elif kind == "points.transfer":
            receiver = self.receiver(event)
            transfer(self.books, account, receiver, data, moment.day)
            if receiver is not None:
                aftermath(self.books, receiver, moment, earns=False)
        elif kind == "member.segments_changed":
            account.published.setdefault(person_of(event, self.history), {})[data["segmentation"]] = data["segments"]
        elif kind == "member.enrolled":
            person = person_of(event, self.history)
            known = {person, *(self.books.account(person).person)}
            account.enrolments.pop(person, None)
            account.enrolments[person] = data
            first = known.isdisjoint(self.persons_enrolled)
            self.persons_enrolled.add(person)
            if first:
                bonus(self.books, account, Moment(moment.at, "enrolled", event["source"], event["id"], person=person))
        else:
            bonus(self.books, account, moment)

    def receiver(self, event: Event) -> Account | None:
        """The account of a transfer's other member, if both are one account, or were last enrolled in one household."""
        giver, receiver = self.account_of(event) or "", self.account_of(event | {"data": {"member": event["data"]["to"]}}) or ""
        households = {
            placed.event["data"]["member_id"]: placed.event["data"].get("household_id")
            for placed in self.history.registry
            if placed.event["type"] == "member.enrolled"
        }
        together = giver == receiver or (households.get(giver) is not None and households.get(giver) == households.get(receiver))
        return self.books.account(receiver) if together else None

    def summary(self) -> Outcome:
        net: Counter[NetKey] = Counter()
        for account in self.books.accounts.values():
            for grant in account.grants:
                net[account.id, grant.source, grant.origin, grant.line_no, grant.rule] += grant.left
        groups: dict[str, list[Account]] = defaultdict(list)
        for name, account in sorted(self.books.accounts.items()):
            groups[self.books.group_of(name)].append(account)
        accounts = {name: standing(self.books, group) for name, group in sorted(groups.items())}
        budgets = {r["id"]: r["cap"].get("on_return") for p in self.books.programs for r in p["rules"] if "budget" in r.get("cap", {})}
        granted = dict.fromkeys(budgets, 0)
        for account in self.books.accounts.values():
            for grant in account.grants:
                if grant.rule in granted:
                    granted[grant.rule] += grant.points if budgets[grant.rule] == "keep" else grant.left
        return Outcome(
            {name: units for name, units in accounts.items() if units},
            {key: points for key, points in net.items() if points},
            {name: account.tier for name, account in self.books.accounts.items() if account.tier is not None and account.into is None},
            granted,
            self.history.duplicates,
            self.waiting,
            self.rejected,
        )


def standing(books: Books, group: list[Account]) -> dict[str, Unit]:
    """Balance, pending, held and lots of each unit of accounts that are one; units with nothing in them are left out."""
    account, grants = group[0], [grant for account in group for grant in account.grants]
    names = {*account.units, *(grant.unit for grant in grants)}
    units: dict[str, Unit] = {}
    for name in sorted(names):
        day = f"{books.as_of or date.min}"
        unit = {
            "balance": account.units[name].balance(day),
            "pending": sum(grant.left for grant in grants if grant.unit == name and grant.pending_until),
            "held": sum(there.points for there in account.holds.values() if there.unit == name and there.is_open),
            "lots": [{"expires_on": expiry or None, "points": points} for expiry, points in account.units[name].lots(day).items()],
        }
        if any(unit.values()):
            units[name] = unit
    return units
