"""What an account remembers: purchases with what came back of them, what rules gave, holds, enrolments, its units and its tier."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from tests.oracle.lots import Holding

Event = dict[str, Any]
Program = dict[str, Any]


@dataclass
class Grant:
    """Points that a rule gave to a line, or to an event; `pending_until` is the day on which their holding period ends.

    `terms` is the rule as it was then; a budget is used by what was limited by it only. `earned`: they are not what something was exchanged
    for, so they count for tiers, caps and `once`, of whatever version.
    `person` is who got it, where it is for a person and not for the account.
    """

    account: str
    rule: str
    unit: str
    day: date
    source: str
    origin: str
    line_no: int | None
    points: int
    expires_on: str
    pending_until: date | None = None
    taken: int = 0
    terms: dict[str, Any] = field(default_factory=dict)
    earned: bool = False
    person: str = ""

    @property
    def left(self) -> int:
        return self.points - self.taken


@dataclass
class Payment:
    """Points that paid a line: spent on `day`, in part given back."""

    unit: str
    day: date
    line_no: int
    points: int
    given_back: int = 0


@dataclass
class Purchase:
    """A sale, and what came back of each line so far: (amount, thousandths).

    `program`, `allowed` and `rooms` are what judged it: the version in force, the rules whose member terms held, and what their caps left.
    """

    source: str
    data: Event
    day: date
    back: dict[int, tuple[int, int]] = field(default_factory=dict)
    voided: bool = False
    grants: list[Grant] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    program: Program = field(default_factory=dict)
    allowed: set[str] = field(default_factory=set)
    rooms: dict[str, list[int]] = field(default_factory=dict)

    def left(self, line: Event) -> tuple[int, int]:
        """Amount and thousandths of a line that did not come back."""
        amount, milli = self.back.get(line["line_no"], (0, 0))
        return line["amount"] - amount, line["quantity_milli"] - milli

    @property
    def gone(self) -> bool:
        """Voided, or wholly returned."""
        return self.voided or (bool(self.back) and not any(any(self.left(line)) for line in self.data["lines"]))

    @property
    def spend(self) -> int:
        return sum(self.left(line)[0] for line in self.data["lines"])


@dataclass
class Hold:
    """Points kept for one purchase, spent as it were on `day`; it ends once."""

    unit: str
    points: int
    day: date
    last_day: date
    is_open: bool = True


@dataclass
class Account:
    """One account; `enrolments` has what each person said last, the latest person last; `published` each person's segments, by
    segmentation, `brought` those of what is merged into it, as they were then.

    `tier` is None until a program with tiers looked at it, `tier_last` the last day of the running window. `joined` are the accounts that
    are merged into it now, the first one first, `into` the one that it is merged into: while it is, rules look there at both.
    """

    id: str
    purchases: list[Purchase] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    holds: dict[str, Hold] = field(default_factory=dict)
    holds_ended: set[str] = field(default_factory=set)
    enrolments: dict[str, Event] = field(default_factory=dict)
    published: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    brought: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    units: dict[str, Holding] = field(default_factory=lambda: defaultdict(Holding))
    tier: str | None = None
    tier_last: date | None = None
    joined: list["Account"] = field(default_factory=list)
    into: "Account | None" = None

    @property
    def person(self) -> set[str]:
        """All names of the one person whose accounts these are."""
        return {self.id}.union(*(other.person for other in self.joined))

    @property
    def all_purchases(self) -> list[Purchase]:
        """Its own, and those of what is merged into it, before the merge as well."""
        return self.purchases + [sale for other in self.joined for sale in other.all_purchases]

    @property
    def all_grants(self) -> list[Grant]:
        return self.grants + [grant for other in self.joined for grant in other.all_grants]

    @property
    def said(self) -> dict[str, Event]:
        """What its persons said; as long as nobody enrolled with it, what was said of the first who did among those merged into it."""
        if self.enrolments:
            return self.enrolments
        told = next((other.said for other in self.joined if other.said), {})
        return {self.id: told[list(told)[-1]]} if told else {}

    def all_published(self, person: str) -> dict[str, list[str]]:
        """Of each segmentation what was said of the person itself, or else of the first one merged into it of whom something was said."""
        found = self.published.get(person, {})
        for other in self.joined:
            found = other.all_brought(self.brought[other.id]) | found
        return found

    def all_brought(self, own: dict[str, list[str]]) -> dict[str, list[str]]:
        """What it brings to the account that it is merged into: its own as it was then, and what is merged into it now."""
        for other in self.joined:
            own = other.all_brought(self.brought[other.id]) | own
        return own

    def credit(self, unit: str, expires_on: str, points: int) -> None:
        self.units[unit].credits[expires_on] += points

    def debit(self, unit: str, day: date, points: int) -> None:
        self.units[unit].debits[f"{day}"] += points


@dataclass(frozen=True)
class Moment:
    """When and as what something is judged: local time, the trigger, whose event it is, and the tier that conditions see.

    `person` is whose enrolment or birthday it is.
    """

    at: datetime
    trigger: str
    source: str
    origin: str
    tier: str = ""
    purchase: Purchase | None = None
    data: Event = field(default_factory=dict)
    person: str = ""

    @property
    def day(self) -> date:
        return self.at.date()


class Refused(Exception):
    """An event that changes nothing; the message is its code."""
