"""What falls due for a member by itself: birthdays, ends of periods that have a target, and of tiers' windows. Expiry is lapsing.py's.

Due are the dates up to that of the latest `clock.tick`; what is due on a date comes before all events of that date.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import NamedTuple

from tillstream.kernels.expiry import month_day
from tillstream.kernels.periods import period
from tillstream.kernels.rules import target_id
from tillstream.kernels.terms import total
from tillstream.schemas.member_state import Member, Profile
from tillstream.schemas.programs import Program, Rule

BIRTHDAY, PERIOD_END, WINDOW_END, CLOCK = "birthday", "period_end", "window_end", "clock"


class Due(NamedTuple):
    """One date for one trigger: the rules concerned, and the count that they look at, 0 where all came back since.

    `name` tells it from all others of its account.
    """

    day: date
    trigger: str
    rules: list[str]
    quantity: int

    @property
    def name(self) -> str:
        return f"{self.trigger}/{self.day}" + (f"/{self.rules[0]}" if self.trigger == PERIOD_END else "")

    def order(self) -> tuple[date, bool, str]:
        """By date; of one date, the tier is decided first."""
        return self.day, self.trigger != WINDOW_END, self.name


def earliest(dues: list[Due]) -> list[Due]:
    """Those of the first date only: what they do may change what is due later."""
    return [due for due in dues if due.day == dues[0].day]


class Dues:
    """The rules of one program that answer to the calendar."""

    def __init__(self, program: Program) -> None:
        self.birthday = [rule.id for rule in program.rules if rule.on == BIRTHDAY]
        self.tiers = program.tiers is not None
        self.targets = [rule for rule in program.rules if rule.on == PERIOD_END and rule.target is not None]

    def between(self, member: Member, after: int, until: int) -> list[Due]:
        """What is due later than the date `after`, up to `until`, in order."""
        found = [*self._birthdays(member.profile, after, until)]
        for rule in self.targets:
            found += self._ends(member, rule, after, until)
        if self.tiers and member.window_end and after <= member.window_end < until:
            found.append(Due(date.fromordinal(member.window_end + 1), WINDOW_END, [], 0))
        return sorted(found, key=Due.order)

    def next_after(self, member: Member, after: int) -> date | None:
        """The first date later than `after` on which something will be due, as things stand."""
        after = max(after, member.profile.enrolled_on or 0, 1)
        year = date.fromordinal(after) + timedelta(days=366)
        ends = [due_day(rule, day) for rule in self.targets for day in member.counts.get(counter_of(rule), {})]
        days = [due.day for due in self._birthdays(member.profile, after, year.toordinal())]
        if self.tiers and member.window_end >= after:
            days.append(date.fromordinal(member.window_end + 1))
        return min([*days, *(day for day in ends if day.toordinal() > after)], default=None)

    def _birthdays(self, profile: Profile, after: int, until: int) -> Iterator[Due]:
        """Birthdays after the enrolment; 02-29 is the 28th in common years."""
        if not self.birthday or profile.birthday is None or profile.enrolled_on is None or until <= 0:
            return
        first = max(after, profile.enrolled_on)
        month, day = int(profile.birthday[:2]), int(profile.birthday[3:])
        for year in range(date.fromordinal(max(1, first)).year, date.fromordinal(until).year + 1):
            due = month_day(year, month, day)
            if first < due.toordinal() <= until:
                yield Due(due, BIRTHDAY, self.birthday, 1)

    def _ends(self, member: Member, rule: Rule, after: int, until: int) -> Iterator[Due]:
        counts = member.counts.get(counter_of(rule), {})
        per = rule.target.per if rule.target is not None else "month"
        for span in sorted({period(date.fromordinal(day), per) for day in counts}):
            due, quantity = due_day(rule, span[0]), total(counts, span)
            if after < due.toordinal() <= until:
                yield Due(due, PERIOD_END, [rule.id], quantity)


def counter_of(rule: Rule) -> str:
    return "watch/" + target_id(rule)


def due_day(rule: Rule, day: int) -> date:
    """The date on which the target of the period of `day` is judged: `offset_days` after the first day behind the period."""
    offset = rule.target.offset_days if rule.target is not None else 0
    per = rule.target.per if rule.target is not None else "month"
    return date.fromordinal(period(date.fromordinal(day), per)[1] + 1 + offset)
