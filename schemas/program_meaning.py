"""Mistakes of meaning in a program file: names that lead nowhere, orders that cannot be, empty intervals.

In: a `Program` whose form is right. Out: every mistake; those of a rule's award, trigger and member terms have files of their own.
"""

from calendar import monthrange
from collections.abc import Iterator
from datetime import time
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tillstream.schemas.mistakes import Mistake, nearest
from tillstream.schemas.program_awards import MILLI_MAX, award_mistakes
from tillstream.schemas.program_offer_mistakes import offer_mistakes
from tillstream.schemas.program_parts import Goods
from tillstream.schemas.program_terms import cap_mistakes, member_mistakes, pattern_mistakes, tier_mistakes
from tillstream.schemas.program_triggers import exchange_mistakes, trigger_mistakes
from tillstream.schemas.programs import Program, Rule, Spending, Unit

LEAP_YEAR = 2000

EXPIRY_DAYS_MAX = 366_000

HOLD_DAYS_MAX = 3_660
"""Ten years pending is a typing error."""


def meaning_mistakes(program: Program) -> Iterator[Mistake]:
    """Mistakes of meaning, in the order of the file: head, units, tiers, rules, offers."""
    try:
        ZoneInfo(program.program.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield Mistake("$.program.time_zone", f"unknown time zone {program.program.time_zone!r}", "for example Europe/Warsaw")
    for name, unit in program.units.items():
        yield from _unit_mistakes(unit, f"$.units.{name}")
    if program.tiers is not None:
        yield from tier_mistakes(program, program.tiers)
    seen: dict[str, int] = {}
    for index, rule in enumerate(program.rules):
        path = f"$.rules[{index}]"
        if rule.id in seen:
            yield Mistake(f"{path}.id", f"{rule.id!r} is taken by $.rules[{seen[rule.id]}]", "rule ids are unique")
        seen.setdefault(rule.id, index)
        yield from _rule_mistakes(program, rule, path)
    yield from exchange_mistakes(program)
    yield from offer_mistakes(program)


def _unit_mistakes(unit: Unit, path: str) -> Iterator[Mistake]:
    expires = unit.expires
    if expires and (expires.after_days, expires.after_months, expires.fixed_dates).count(None) != 2:
        yield Mistake(f"{path}.expires", "needs exactly one of after_days, after_months, fixed_dates")
    for text in (expires and expires.fixed_dates) or []:
        if int(text[3:]) > monthrange(LEAP_YEAR, int(text[:2]))[1]:
            yield Mistake(f"{path}.expires.fixed_dates", f"no year has a {text}")
    if expires and max(expires.after_days or 0, 31 * (expires.after_months or 0)) > EXPIRY_DAYS_MAX:
        yield Mistake(f"{path}.expires", "is more than a thousand years", "leave `expires` out for points that never expire")
    yield from _hold_mistakes(unit.hold_days, path)
    if unit.spending is not None:
        yield from _spending_mistakes(unit.spending, f"{path}.spending")


def _hold_mistakes(days: int | None, path: str) -> Iterator[Mistake]:
    if (days or 0) > HOLD_DAYS_MAX:
        yield Mistake(f"{path}.hold_days", f"is more than {HOLD_DAYS_MAX} days, ten years")


def _spending_mistakes(spending: Spending, path: str) -> Iterator[Mistake]:
    """Terms of spending that no receipt can meet, and a worth that nobody can count with."""
    if spending.min_percent > spending.max_percent:
        message = f"{spending.max_percent} is less than `min_percent`, {spending.min_percent}"
        yield Mistake(f"{path}.max_percent", message, "points could pay no receipt at all")
    if spending.max_percent == 0:
        yield Mistake(f"{path}.max_percent", "0 allows no points at all", "leave it out to allow the whole receipt")
    if max(spending.worth.points, spending.worth.amount) > MILLI_MAX:
        yield Mistake(f"{path}.worth", f"points and amount may be at most {MILLI_MAX}")
    yield from _goods_mistakes(spending.lines, f"{path}.lines")
    yield from _goods_mistakes(spending.exclude, f"{path}.exclude")


def _rule_mistakes(program: Program, rule: Rule, path: str) -> Iterator[Mistake]:
    if rule.unit not in program.units:
        hint = nearest(rule.unit, program.units, f"add [units.{rule.unit}]")
        yield Mistake(f"{path}.unit", f"unit {rule.unit!r} is not declared", hint)
    if rule.group is not None and rule.group not in program.groups:
        hint = nearest(rule.group, program.groups, f"add [groups.{rule.group}]")
        yield Mistake(f"{path}.group", f"group {rule.group!r} is not declared", hint)
    when = rule.when
    if when.hours and not time_of(when.hours[0]) < time_of(when.hours[1]):
        yield Mistake(f"{path}.when.hours", "the first time must come before the second", "split hours over midnight into two rules")
    if when.from_ and when.to and when.from_ > when.to:
        yield Mistake(f"{path}.when.to", f"{when.to} comes before `from`, {when.from_}")
    yield from pattern_mistakes(when.store, f"{path}.when.store")
    yield from _goods_mistakes(rule.lines, f"{path}.lines")
    yield from _goods_mistakes(rule.exclude, f"{path}.exclude")
    yield from _hold_mistakes(rule.hold_days, path)
    yield from trigger_mistakes(program, rule, path)
    if rule.member is not None:
        yield from member_mistakes(program, rule.member, f"{path}.member")
    yield from cap_mistakes(rule, f"{path}.cap")
    yield from award_mistakes(program, rule, f"{path}.award")


def _goods_mistakes(goods: Goods, path: str) -> Iterator[Mistake]:
    for key in ("sku", "category", "brand", "kind"):
        yield from pattern_mistakes(getattr(goods, key), f"{path}.{key}")


def time_of(text: str) -> int:
    """Minutes since local midnight of `HH:MM`; 24:00 is the day's end."""
    if text == "24:00":
        return 24 * 60
    moment = time.fromisoformat(text)
    return moment.hour * 60 + moment.minute
