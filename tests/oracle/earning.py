"""What an event of an account earns: rules that apply to it as of its moment, cut by what their caps leave; grants on the account out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from tests.oracle.calendar import expiry_of, period_of
from tests.oracle.facts import Account, Event, Grant, Moment, Program, Purchase
from tests.oracle.judging import judge_event, judge_receipt
from tests.oracle.terms import fields_match, member_terms_hold
from tests.oracle.timetable import in_force
from tests.reference import applies, decimal_fraction, rounded, spread


@dataclass
class Books:
    """All accounts, and what they are judged by: versions of programs, their zone, the largest date of a tick.

    `group_of` says into which account one is merged in the end.
    """

    programs: list[Program]
    zone: ZoneInfo
    as_of: date | None
    group_of: Callable[[str], str] = str
    accounts: dict[str, Account] = field(default_factory=dict)

    def account(self, name: str) -> Account:
        """An account; what points it has, and what of them is held, is that of all accounts that are one in the end."""
        if name not in self.accounts:
            found = self.accounts[name] = Account(name)
            if self.group_of(name) != name:
                root = self.account(self.group_of(name))
                found.units, found.holds, found.holds_ended = root.units, root.holds, root.holds_ended
        return self.accounts[name]

    def is_due(self, day: date) -> bool:
        return self.as_of is not None and day <= self.as_of

    def balance(self, account: Account, unit: str, day: date) -> int:
        """What the ledger says at the end of an event on `day`: points expire only with a tick."""
        return account.units[unit].balance(f"{min(day, self.as_of or date.min)}")


def rooms_of(books: Books, account: Account, rule: dict[str, Any], day: date) -> list[int]:
    """What each cap of the rule leaves on `day`: per receipt, per member, budget."""
    cap = rule.get("cap", {})
    rooms = [cap["per_receipt"]] if "per_receipt" in cap else []
    if "per_member" in cap:
        first, last = period_of(day, cap["per_member"]["per"])
        own = [grant for grant in account.all_grants if grant.rule == rule["id"] and grant.earned and first <= grant.day <= last]
        rooms.append(max(0, cap["per_member"]["points"] - used(own)))
    if "budget" in cap:
        everywhere = [grant for other in books.accounts.values() for grant in other.grants if grant.rule == rule["id"]]
        limited = [grant for grant in everywhere if "budget" in grant.terms.get("cap", {})]
        rooms.append(max(0, cap["budget"] - used(limited)))
    return rooms


def used(grants: list[Grant]) -> int:
    """What they took of a limit: by the rule as it was then, with what came back or without."""
    return sum(grant.points if grant.terms.get("cap", {}).get("on_return") == "keep" else grant.left for grant in grants)


def allowed(account: Account, rule: dict[str, Any], moment: Moment) -> bool:
    """The rule answers to this trigger, the member's terms hold, and `once` was not used up."""
    if rule.get("on", "receipt") != moment.trigger or not member_terms_hold(rule.get("member", {}), account, moment):
        return False
    if "once" not in rule:
        return True
    first, last = period_of(moment.day, rule["once"])
    own = [grant for grant in account.all_grants if grant.person == moment.person or {grant.person, moment.person} <= account.person]
    return not any(grant.rule == rule["id"] and grant.earned and first <= grant.day <= last for grant in own)


def grant(account: Account, program: Program, rule: dict[str, Any], moment: Moment, line_no: int | None, points: int) -> Grant:
    """Notes what a rule gave: usable at once, or pending for its holding period."""
    unit = rule.get("unit", "points")
    hold_days = rule.get("hold_days", program["units"][unit].get("hold_days", 0))
    given = Grant(
        account.id, rule["id"], unit, moment.day, moment.source, moment.origin, line_no, points,
        expiry_of(program["units"][unit], moment.day), moment.day + timedelta(days=hold_days) if hold_days else None,
        terms=rule, earned=moment.trigger != "balance",
        person=moment.person,
    )  # fmt: skip
    account.grants.append(given)
    if given.pending_until is None:
        account.credit(unit, given.expires_on, points)
    return given


def earn_receipt(books: Books, account: Account, sale: Purchase, moment: Moment) -> None:
    """Judges a sale that already stands among the account's purchases, and keeps with it what it was judged by."""
    sale.program = in_force(books.programs, moment.day)
    rules = {rule["id"]: rule for rule in sale.program["rules"]}
    sale.allowed = {name for name, rule in rules.items() if allowed(account, rule, moment)}
    sale.rooms = {name: rooms_of(books, account, rule, moment.day) for name, rule in rules.items()}
    for name, parts in judged(books, sale, sale.data, tender_shares(sale.data)).items():
        for place, points in parts.items():
            number = sale.data["lines"][place]["line_no"]
            sale.grants.append(grant(account, sale.program, rules[name], moment, number, points))


def judged(books: Books, sale: Purchase, data: Event, shares: list[int]) -> dict[str, dict[int, int]]:
    """The sale's own judging of `data`: the whole receipt, or what is left of it."""
    return judge_receipt(sale.program, data, shares, books.zone, sale.allowed, lambda rule: sale.rooms[rule["id"]])


def tender_shares(data: Event) -> list[int]:
    """What points tenders paid of each line."""
    paid = sum(tender["amount"] for tender in data.get("tenders", []) if tender["type"] == "points")
    return spread(paid, [line["amount"] for line in data["lines"]], [line["line_no"] for line in data["lines"]])


def earn_event(books: Books, account: Account, moment: Moment) -> None:
    """Bonuses for enrolments, birthdays, tiers reached, activities and periods that ended."""
    program = in_force(books.programs, moment.day)
    rules = {rule["id"]: rule for rule in program["rules"]}
    sizes = {name: size_of(rule, moment) for name, rule in rules.items() if event_rule_applies(books, account, rule, moment)}
    for name, parts in judge_event(program, sizes, lambda rule: rooms_of(books, account, rule, moment.day)).items():
        for points in parts.values():
            grant(account, program, rules[name], moment, None, points)


def event_rule_applies(books: Books, account: Account, rule: dict[str, Any], moment: Moment) -> bool:
    """`when` looks at the instant only; a target rule is due only at the end of its own periods, which `sizes` says."""
    instant = {"issued_at": moment.at.isoformat(), "lines": [], "store_id": ""}
    return (
        allowed(account, rule, moment)
        and applies(rule, instant, books.zone)
        and fields_match(rule.get("activity", {}), moment.data)
        and (moment.trigger != "period_end" or rule["id"] in moment.data["counts"])
    )


def size_of(rule: dict[str, Any], moment: Moment) -> int:
    """The award before caps: of an activity by its quantity, of a target by the period's count."""
    how = rule["award"]
    if "fixed" in how:
        return int(how["fixed"]) if moment.trigger != "period_end" or moment.data["counts"][rule["id"]] > 0 else 0
    if "per_item" in how:
        return int(how["points"] * (moment.data.get("quantity", 1) // how["per_item"]))
    count = moment.data["counts"][rule["id"]]
    if "steps" in how:
        return int(max((step for step in how["steps"] if step[0] <= count), default=[0, 0])[1])
    return rounded(Fraction(count) * decimal_fraction(how["points"]) / how["per_amount"], rule.get("rounding", "floor"))
