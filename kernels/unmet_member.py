"""Why a rule does not apply to a member: the first condition of `member = {...}` or `once` that it does not meet, and both its sides.

Which one it is, terms.py decides, by the very functions that posted the event; here are only the words.
"""

from collections.abc import Mapping
from datetime import date

from tillstream.kernels.periods import Span, period, window_span
from tillstream.kernels.rules import bought_id, bought_lines
from tillstream.kernels.terms import SPEND, VISITS, Moment, conditions_of, first_failing, has, total
from tillstream.kernels.unmet import GOODS, either
from tillstream.schemas.explanations import Unmet
from tillstream.schemas.member_state import Member
from tillstream.schemas.programs import Bought, MemberTerms, Rule, Streak, Window


def unmet_member(rule: Rule, member: Member, moment: Moment) -> Unmet | None:
    """The first condition on the member that does not hold."""
    path = first_failing(conditions_of(rule), member, moment)
    if path is None:
        return None
    if path == "once":
        return used(rule, member, moment)
    return in_words(path.removeprefix("member."), rule.member or MemberTerms(), member, moment)


def in_words(name: str, terms: MemberTerms, member: Member, moment: Moment) -> Unmet:
    """What a condition wanted of the member, and what it found."""
    profile, path = member.profile, f"member.{name}"
    if name == "tier":
        return Unmet(path, either(terms.tier or []), f"the member is {member.tier}" if member.tier else "the member has no tier")
    if name == "segment":
        there = member.all_segments()
        found = f"the member is of {' and '.join(there)}" if there else "the member is of none"
        return Unmet(path, either(terms.segment or []), found)
    if name == "kind":
        return Unmet(path, either(terms.kind or []), f"the member is a {profile.kind}")
    if name == "attributes":
        return unmet_attribute(terms.attributes or {}, member)
    if name == "first_purchase":
        wanted = "a first purchase" if terms.first_purchase else "an earlier purchase"
        return Unmet(path, wanted, "the member has bought before" if terms.first_purchase else "this is the first")
    if name == "bought":
        return unmet_bought(terms.bought or Bought(1), member, moment)
    if name == "streak":
        return unmet_streak(terms.streak or Streak(1), member, moment)
    return unmet_window(name, (terms.visits if name == VISITS else terms.spend) or Window(), member, moment)


def unmet_attribute(wanted: Mapping[str, list[str | int | bool]], member: Member) -> Unmet:
    name, values = next((name, values) for name, values in wanted.items() if not has(member.profile, name, values))
    value = member.profile.attributes.get(name)
    found = "the member has none" if value is None else f"the member has {either([value])}"
    return Unmet(f"member.attributes.{name}", either(values), found)


def unmet_bought(bought: Bought, member: Member, moment: Moment) -> Unmet:
    lines, counts = bought_lines(bought), member.counts.get("watch/" + bought_id(bought), {})
    goods = " and ".join(f"{key} {either(getattr(lines, key))}" for key in GOODS if getattr(lines, key) is not None)
    days = [day for day, count in counts.items() if count > 0 and day <= moment.day.toordinal()]
    found = f"the last was on {iso(max(days))}" if days else "there was none"
    return Unmet("member.bought", f"{goods or 'anything'} in the last {bought.within_days} days", found)


def unmet_window(name: str, window: Window, member: Member, moment: Moment) -> Unmet:
    """Bounds on a count of receipts, or on what they came to."""
    own = (moment.amount is not None) if name == VISITS else (moment.amount or 0)
    found = total(member.counts.get(name), window_span(window, moment.day)) + own
    enough = window.min is None or found >= window.min
    bound = f"at most {window.max}" if enough else f"{window.min}"
    if name == SPEND:
        said = f"with this receipt it is {found}" if moment.amount is not None else f"it is {found}"
    else:
        said = f"this is the {ordinal(found)}" if moment.amount is not None else f"there are {found}"
    return Unmet(f"member.{name}", f"{bound} {in_window(window)}", said)


def unmet_streak(streak: Streak, member: Member, moment: Moment) -> Unmet:
    """The earliest week that is too thin."""
    monday, sunday = period(moment.day, "week")
    for back in reversed(range(streak.weeks)):
        week: Span = (monday - 7 * back, sunday - 7 * back)
        visits = total(member.counts.get(VISITS), week) + (back == 0 and moment.amount is not None)
        if visits < streak.visits:
            break
    times = "a visit" if streak.visits == 1 else f"{streak.visits} visits"
    return Unmet("member.streak", f"{times} in each of {streak.weeks} weeks", f"the week of {iso(week[0])} has {visits}")


def used(rule: Rule, member: Member, moment: Moment) -> Unmet:
    per = rule.once or "ever"
    first, last = period(moment.day, per)
    days = [day for day in member.used.get(rule.id, ()) if first <= day <= last]
    return Unmet("once", "once ever" if per == "ever" else f"once a {per}", f"it gave already on {iso(min(days))}")


def in_window(window: Window) -> str:
    """Which dates a condition looks at.

    >>> in_window(Window(days=30)), in_window(Window(months=1)), in_window(Window(per="month"))
    ('in 30 days', 'in 1 month', 'in the running month')
    """
    if window.days is not None or window.months is not None:
        count, name = (window.days, "day") if window.days is not None else (window.months, "month")
        return f"in {count} {name}" + ("" if count == 1 else "s")
    return f"in the running {window.per}" if window.per else "in all"


def ordinal(number: int) -> str:
    """
    >>> [ordinal(n) for n in (1, 2, 3, 11, 22)]
    ['1st', '2nd', '3rd', '11th', '22nd']
    """
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def iso(day: int) -> str:
    return date.fromordinal(day).isoformat()
