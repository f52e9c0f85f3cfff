"""What falls due for a member by itself: birthdays, ends of periods that have a target, and of tiers' windows. Expiry is lapsing.py's.

Due are the dates up to that of the latest `clock.tick`; what is due on a date comes before all events of that date.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from tillstream.kernels.expiry import month_day
from tillstream.kernels.periods import period
from tillstream.kernels.rules import target_id
from tillstream.kernels.terms import total
from tillstream.schemas.member_state import Member, Profile
from tillstream.schemas.programs import Program, Rule

BIRTHDAY, PERIOD_END, WINDOW_END, CLOCK = "birthday", "period_end", "window_end", "clock"

NOTHING: dict[int, int] = {}

DAYS_MAX = 4_000
"""Dates whose periods are remembered: ten years of them."""


class Due(NamedTuple):
    """One date for one trigger: the rules concerned, and the count that they look at, 0 where all came back since.

    `person`: whose birthday it is, as in `Profile`. `name` tells it from all others of its account.
    """

    day: date
    trigger: str
    rules: list[str]
    quantity: int
    person: str = ""

    @property
    def name(self) -> str:
        which = self.rules[0] if self.trigger == PERIOD_END else self.person
        return f"{self.trigger}/{self.day}" + (f"/{which}" if which else "")

    def order(self) -> tuple[date, bool, str]:
        """By date; of one date, the tier is decided first."""
        return self.day, self.trigger != WINDOW_END, self.name


def earliest(dues: list[Due]) -> list[Due]:
    """Those of the first date only: what they do may change what is due later."""
    return [due for due in dues if due.day == dues[0].day]


class Ends(dict[int, int]):
    """By date, when the target of its period is judged; remembered, since receipts come by the day."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def __missing__(self, day: int) -> int:
        found = self[day] = due_day(self.rule, day)
        return found


class Dues:
    """The rules of one program that answer to the calendar."""

    def __init__(self, program: Program) -> None:
        self.birthday = [rule.id for rule in program.rules if rule.on == BIRTHDAY]
        self.tiers = program.tiers is not None
        self.targets = [(rule, counter_of(rule), Ends(rule)) for rule in program.rules if rule.on == PERIOD_END and rule.target is not None]

    def between(self, member: Member, after: int, until: int) -> list[Due]:
        """What is due later than the date `after`, up to `until`, in order; for a member that is merged it falls due with the other one."""
        if until <= after or member.into:
            return []
        found = [due for profile in persons(member) for due in self._birthdays(profile, after, until)]
        for rule, counter, _ in self.targets:
            found += self._ends(rule, member.counts.get(counter, {}), after, until)
        if self.tiers and member.window_end and after <= member.window_end < until:
            found.append(Due(date.fromordinal(member.window_end + 1), WINDOW_END, [], 0))
        return sorted(found, key=Due.order)

    @property
    def empty(self) -> bool:
        """Whether nothing ever falls due."""
        return not (self.targets or self.birthday or self.tiers)

    def next_after(self, member: Member, after: int) -> int:
        """The first date later than `after` on which something will be due, as things stand; 0 for none."""
        if member.into:
            return 0
        after = max(after, 1)
        days = []
        for _, counter, ends in self.targets:
            for day in reversed(member.counts.get(counter, NOTHING)):  # The dates rise, as events were counted.
                end = ends[day]
                if end <= after:
                    break
                days.append(end)
        for profile in persons(member):
            first = max(after, profile.enrolled_on or 0)
            days += [due.day.toordinal() for due in self._birthdays(profile, first, first + 366)]
        if self.tiers and member.window_end >= after:
            days.append(member.window_end + 1)
        return min(days, default=0)

    def _birthdays(self, profile: Profile, after: int, until: int) -> Iterator[Due]:
        """Birthdays after the enrolment; 02-29 is the 28th in common years."""
        if not self.birthday or profile.birthday is None or profile.enrolled_on is None or until <= 0:
            return
        first = max(after, profile.enrolled_on)
        month, day = int(profile.birthday[:2]), int(profile.birthday[3:])
        for year in range(date.fromordinal(max(1, first)).year, date.fromordinal(until).year + 1):
            due = month_day(year, month, day)
            if first < due.toordinal() <= until:
                yield Due(due, BIRTHDAY, self.birthday, 1, profile.person)

    def _ends(self, rule: Rule, counts: Mapping[int, int], after: int, until: int) -> Iterator[Due]:
        per = rule.target.per if rule.target is not None else "month"
        for span in sorted({period(date.fromordinal(day), per) for day in counts}):
            due, quantity = due_day(rule, span[0]), total(counts, span)
            if after < due <= until:
                yield Due(date.fromordinal(due), PERIOD_END, [rule.id], quantity)


def persons(member: Member) -> Iterator[Profile]:
    """All persons of an account."""
    yield member.profile
    yield from member.others.values()


def counter_of(rule: Rule) -> str:
    return "watch/" + target_id(rule)


def due_day(rule: Rule, day: int) -> int:
    """The date on which the target of the period of `day` is judged: `offset_days` after the first day behind the period."""
    target = rule.target
    return 0 if target is None else last_day(day, target.per) + 1 + target.offset_days


@lru_cache(DAYS_MAX)
def last_day(day: int, per: str) -> int:
    """The last date of the period that `day` falls into."""
    return period(date.fromordinal(day), per)[1]
