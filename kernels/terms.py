"""Conditions on the member (`member = {...}`): does what came before an event leave a rule open, and if not, which condition failed first?

In: the member's state, and the moment: the event's local date, and for a sale what it comes to. Out: yes, or the name of a condition.
"""

from collections.abc import Callable, Mapping
from datetime import date
from typing import NamedTuple

from tillstream.kernels.periods import Span, period, window_span
from tillstream.kernels.rules import bought_id
from tillstream.schemas.member_state import Member, Profile
from tillstream.schemas.programs import Bought, MemberTerms, Rule, Streak, Window

VISITS, SPEND, PURCHASES = "visits", "spend", "purchases"
"""Counters: sales of which something is left, what they came to, and sales that were not voided."""


class Moment(NamedTuple):
    """An event as conditions see it; `amount` is the sum of a sale's lines, None for every other event."""

    day: date
    amount: int | None = None


Condition = Callable[[Member, Moment], bool]


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
        per = rule.once
        found.append(("once", lambda member, moment: not _used(member, rule.id, period(moment.day, per))))
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
    made = {
        "tier": lambda wanted: lambda member, moment: member.tier in wanted,
        "segment": lambda wanted: lambda member, moment: not set(wanted).isdisjoint(member.profile.segments),
        "kind": lambda wanted: lambda member, moment: member.profile.kind in wanted,
        "attributes": _attributes,
        "first_purchase": lambda wanted: lambda member, moment: wanted is not any(member.counts.get(PURCHASES, {}).values()),
        "bought": _bought,
        "visits": lambda window: _bounded(VISITS, window, lambda moment: moment.amount is not None),
        "spend": lambda window: _bounded(SPEND, window, lambda moment: moment.amount or 0),
        "streak": _streak,
    }
    given = ((name, getattr(terms, name)) for name in made)
    return [(name, made[name](wanted)) for name, wanted in given if wanted is not None]


def _attributes(wanted: dict[str, list[str | int | bool]]) -> Condition:
    return lambda member, moment: all(has(member.profile, name, values) for name, values in wanted.items())


def has(profile: Profile, name: str, values: list[str | int | bool]) -> bool:
    """Whether an attribute is one of `values`; `true` is not 1."""
    value = profile.attributes.get(name)
    return any(value == one and isinstance(value, bool) is isinstance(one, bool) for one in values)


def _bought(bought: Bought) -> Condition:
    counter = "watch/" + bought_id(bought)

    def holds(member: Member, moment: Moment) -> bool:
        today = moment.day.toordinal()
        return total(member.counts.get(counter), (today - bought.within_days, today)) > 0

    return holds


def _bounded(counter: str, window: Window, now: Callable[[Moment], int]) -> Condition:
    """The window's sum with the event's own part, within the window's bounds."""

    def holds(member: Member, moment: Moment) -> bool:
        found = total(member.counts.get(counter), window_span(window, moment.day)) + now(moment)
        return (window.min is None or found >= window.min) and (window.max is None or found <= window.max)

    return holds


def _streak(streak: Streak) -> Condition:
    def holds(member: Member, moment: Moment) -> bool:
        monday, sunday = period(moment.day, "week")
        visits = member.counts.get(VISITS)
        weeks = [(monday - 7 * back, sunday - 7 * back) for back in range(streak.weeks)]
        own = moment.amount is not None
        return all(total(visits, week) + (own and week[0] == monday) >= streak.visits for week in weeks)

    return holds
