"""Conditions on the member (`member = {...}`): does what came before an event leave a rule open, and if not, which condition failed first?

In: the member's state, and the moment: the event's local date, and for a sale what it comes to. Out: yes, or the name of a condition.
"""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, NamedTuple

from tillstream.kernels.periods import Span, window_span
from tillstream.kernels.rules import bought_id
from tillstream.schemas.fields import INT64_MAX
from tillstream.schemas.member_state import Member, Profile
from tillstream.schemas.programs import Bought, MemberTerms, Rule, Streak, Window

VISITS, SPEND, PURCHASES = "visits", "spend", "purchases"
"""Counters: sales of which something is left, what they came to, and sales that were not voided."""


class Moment(NamedTuple):
    """An event as conditions see it; `amount` is the sum of a sale's lines, None for every other event."""

    day: date
    amount: int | None = None


Condition = Callable[[Member, Moment], bool]


class Bound(NamedTuple):
    """A counter's sum over the dates of a window, shifted some weeks back, and the least and the most that it may come to.

    `own` says which part of the event itself counts: VISITS, SPEND, or nothing. (looking.pyx judges sales by these, many at a time.)
    """

    counter: str
    window: Window
    least: int = 0
    most: int = INT64_MAX
    own: str = ""
    weeks_back: int = 0

    def holds(self, member: Member, moment: Moment) -> bool:
        """Whether the sum is within the bound."""
        found = total(member.counts.get(self.counter), self.span(moment.day)) + self.part_of(moment)
        return self.least <= found and (found <= self.most or self.most == INT64_MAX)

    def span(self, day: date) -> Span:
        """The dates that are looked at from `day`."""
        first, last = window_span(self.window, day)
        return first - 7 * self.weeks_back, last - 7 * self.weeks_back

    def part_of(self, moment: Moment) -> int:
        """What the event itself adds."""
        if moment.amount is None or not self.own:
            return 0
        return moment.amount if self.own == SPEND else 1


def total(counts: Mapping[int, int] | None, span: Span) -> int:
    """The sum over the dates of `span`, both ends included."""
    first, last = span
    return sum([count for day, count in counts.items() if first <= day <= last]) if counts else 0


def conditions_of(rule: Rule) -> list[tuple[str, Condition]]:
    """What a rule asks of the member, by name, in the order of `MemberTerms`; `once` last."""
    found: list[tuple[str, Condition]] = []
    if rule.member is not None:
        found += [(f"member.{name}", made) for name, made in _conditions(rule.member)]
    if rule.once is not None:
        once = Window(per=None if rule.once == "ever" else rule.once)
        found.append(("once", lambda member, moment: not _used(member, rule.id, window_span(once, moment.day))))
    return found


def first_failing(conditions: list[tuple[str, Condition]], member: Member, moment: Moment) -> str | None:
    """The first condition that does not hold; None: all do."""
    for name, holds in conditions:
        if not holds(member, moment):
            return name
    return None


def _used(member: Member, rule_id: str, span: Span) -> bool:
    return any(span[0] <= day <= span[1] for day in member.used.get(rule_id, ()))


def _conditions(terms: MemberTerms) -> list[tuple[str, Condition]]:
    made: dict[str, Callable[[Any], Condition]] = {
        "tier": lambda wanted: lambda member, moment: member.tier in wanted,
        "segment": lambda wanted: lambda member, moment: not set(wanted).isdisjoint(member.all_segments()),
        "kind": lambda wanted: lambda member, moment: member.profile.kind in wanted,
        "attributes": _attributes,
    }
    who = [(name, make(wanted)) for name, make in made.items() if (wanted := getattr(terms, name)) is not None]
    return who + [(name, _within(bounds)) for name, bounds in bounds_of(terms)]


def _within(bounds: list[Bound]) -> Condition:
    return lambda member, moment: all(bound.holds(member, moment) for bound in bounds)


def bounds_of(terms: MemberTerms) -> list[tuple[str, list[Bound]]]:
    """The conditions on what the member did, by name, in the order of `MemberTerms`."""
    made: dict[str, Callable[[Any], list[Bound]]] = {
        "first_purchase": lambda first: [Bound(PURCHASES, Window(), most=0) if first else Bound(PURCHASES, Window(), least=1)],
        "bought": _bought,
        "visits": lambda window: [_window(VISITS, window)],
        "spend": lambda window: [_window(SPEND, window)],
        "streak": _streak,
    }
    return [(name, make(wanted)) for name, make in made.items() if (wanted := getattr(terms, name)) is not None]


def who_conditions(rule: Rule) -> list[tuple[str, Condition]]:
    """The conditions on who the member is: on nothing but its tier and its profile."""
    terms = rule.member
    if terms is None:
        return []
    return _conditions(MemberTerms(tier=terms.tier, segment=terms.segment, kind=terms.kind, attributes=terms.attributes))


def _attributes(wanted: dict[str, list[str | int | bool]]) -> Condition:
    return lambda member, moment: all(has(member.profile, name, values) for name, values in wanted.items())


def has(profile: Profile, name: str, values: list[str | int | bool]) -> bool:
    """Whether an attribute is one of `values`; `true` is not 1."""
    value = profile.attributes.get(name)
    return any(value == one and isinstance(value, bool) is isinstance(one, bool) for one in values)


def _bought(bought: Bought) -> list[Bound]:
    return [Bound("watch/" + bought_id(bought), Window(days=bought.within_days + 1), least=1)]


def _window(counter: str, window: Window) -> Bound:
    span = Window(days=window.days, months=window.months, per=window.per)
    least, most = window.min or 0, INT64_MAX if window.max is None else window.max
    return Bound(counter, span, least, most, own=counter)


def _streak(streak: Streak) -> list[Bound]:
    weeks = range(streak.weeks)
    return [Bound(VISITS, Window(per="week"), streak.visits, own="" if back else VISITS, weeks_back=back) for back in weeks]
