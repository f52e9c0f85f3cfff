"""Mistakes in what a program asks of a member and how it limits a rule: tiers, purchase history, windows, caps, patterns of goods."""

from collections.abc import Iterator
from typing import get_args

from tillstream.schemas.mistakes import Mistake, nearest
from tillstream.schemas.program_parts import Who
from tillstream.schemas.programs import Bought, MemberTerms, Program, Rule, Tiers, Window
from tillstream.schemas.receipts import LineKind

LINE_KINDS: tuple[str, ...] = get_args(LineKind)

GOODS_KEYS = ("sku", "category", "brand", "kind")

MONTHS_OF_A_YEAR = 12

LOOK_BACK_DAYS_MAX = 36_600
"""A hundred years: as far as local dates can be counted back from any event."""


def tier_mistakes(program: Program, tiers: Tiers) -> Iterator[Mistake]:
    """What is wrong with `[tiers]`."""
    window, path = tiers.window, "$.tiers.window"
    if window.kind == "calendar" and MONTHS_OF_A_YEAR % window.months:
        yield Mistake(f"{path}.months", f"periods of {window.months} months do not fill a calendar year", "1, 2, 3, 4, 6 or 12")
    if window.count == "points" and window.unit not in program.units:
        hint = nearest(window.unit, program.units, f"add [units.{window.unit}]")
        yield Mistake(f"{path}.unit", f"unit {window.unit!r} is not declared", hint)
    seen: dict[str, int] = {}
    for index, level in enumerate(tiers.levels):
        path = f"$.tiers.levels[{index}]"
        if level.id in seen:
            yield Mistake(f"{path}.id", f"{level.id!r} is taken by $.tiers.levels[{seen[level.id]}]", "levels have different ids")
        seen.setdefault(level.id, index)
        if index and level.from_ <= (below := tiers.levels[index - 1]).from_:
            yield Mistake(f"{path}.from", f"{level.from_} is not above the {below.from_} of {below.id!r}", "levels rise, lowest first")


def member_mistakes(program: Program, terms: MemberTerms, path: str) -> Iterator[Mistake]:
    """What is wrong with a rule's conditions on its member."""
    yield from who_mistakes(program, terms, path)
    if terms.bought is not None:
        yield from _bought_mistakes(terms.bought, f"{path}.bought")
    for key in ("visits", "spend"):
        window: Window | None = getattr(terms, key)
        if window is not None:
            yield from _window_mistakes(window, f"{path}.{key}")


def who_mistakes(program: Program, terms: Who, path: str) -> Iterator[Mistake]:
    """What is wrong with conditions on who a member is."""
    levels = [] if program.tiers is None else [level.id for level in program.tiers.levels]
    for tier in terms.tier or []:
        if tier not in levels:
            hint = nearest(tier, levels, f"levels are {', '.join(levels)}" if levels else "add [tiers]")
            yield Mistake(f"{path}.tier", f"no level is called {tier!r}", hint)
    for name, values in (terms.attributes or {}).items():
        if not values:
            yield Mistake(f"{path}.attributes.{name}", "has no value, so nobody can have it")


def _bought_mistakes(bought: Bought, path: str) -> Iterator[Mistake]:
    if all(getattr(bought, key) is None for key in GOODS_KEYS):
        yield Mistake(path, "names no goods", f"give one of {', '.join(GOODS_KEYS)}")
    if bought.within_days > LOOK_BACK_DAYS_MAX:
        yield Mistake(f"{path}.within_days", "is more than a hundred years")
    for key in GOODS_KEYS:
        given: str | list[str] | None = getattr(bought, key)
        yield from pattern_mistakes([given] if isinstance(given, str) else given, f"{path}.{key}")


def _window_mistakes(window: Window, path: str) -> Iterator[Mistake]:
    if (window.days, window.months, window.per).count(None) != 2:
        yield Mistake(path, "needs exactly one of days, months, per")
    if window.min is None and window.max is None:
        yield Mistake(path, "needs `min` or `max`: without a bound it asks nothing")
    if window.min is not None and window.max is not None and window.min > window.max:
        yield Mistake(f"{path}.max", f"{window.max} is below `min`, {window.min}")
    if max(window.days or 0, 31 * (window.months or 0)) > LOOK_BACK_DAYS_MAX:
        yield Mistake(path, "looks back more than a hundred years")


def cap_mistakes(rule: Rule, path: str) -> Iterator[Mistake]:
    """What is wrong with a rule's limits."""
    cap = rule.cap
    if cap.on_return == "keep" and cap.per_member is None and cap.budget is None:
        yield Mistake(f"{path}.on_return", "says what becomes of room that is not there", "it belongs to per_member or budget")
    if cap.per_member is not None and cap.budget is not None and cap.per_member.points > cap.budget:
        yield Mistake(f"{path}.per_member.points", f"{cap.per_member.points} is above the whole budget, {cap.budget}")


def pattern_mistakes(patterns: list[str] | None, path: str) -> Iterator[Mistake]:
    """Globs that no name can match as they were meant; of a key `kind`, also kinds that no line has."""
    for pattern in patterns or []:
        if any("**" in segment and segment != "**" for segment in pattern.split("/")):
            yield Mistake(path, f"`**` is a whole segment, not part of one: {pattern!r}")
        if path.endswith(".kind") and "*" not in pattern and pattern not in LINE_KINDS:
            yield Mistake(path, f"no line is of kind {pattern!r}", f"kinds are {', '.join(LINE_KINDS)}")
