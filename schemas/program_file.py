"""A program file: TOML text in, a `Program` and its version out, or every mistake at once, each with its path and a hint."""

import difflib
import tomllib
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import time
from decimal import Decimal
from fractions import Fraction
from hashlib import blake2b
from typing import Any, NamedTuple, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import NODEFAULT

from tillstream.schemas.fields import INT64_MAX
from tillstream.schemas.programs import Award, Program, Rule, Unit, award_form, ordered
from tillstream.schemas.receipts import LineKind

NOT_YET = {
    "offers",
}  # fmt: skip
"""Keys of DESIGN.md §6 that this version does not judge: refused, so that no rule is silently wider than it was written."""

LINE_KINDS: tuple[str, ...] = get_args(LineKind)

LEAP_YEAR = 2000

HOLD_DAYS_MAX = 3_660
"""Ten years: a longer period is a mistake, and within it no date of a receipt leaves the calendar."""

DIGITS_MAX = 15

MILLI_MAX = 10**DIGITS_MAX
"""Bounds factors of an award, so that `1000 * per_item` and the like stay within 64 bits."""


@dataclass(frozen=True)
class Mistake:
    """One thing wrong in a program file."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class InvalidProgram(Exception):
    """A program file with mistakes: all of them are in `mistakes`."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = mistakes


class Versioned(NamedTuple):
    """A program and its version: the BLAKE2b-128 of its parsed content, in hexadecimal; comments and layout do not count."""

    program: Program
    version: str


def parse_program(text: str) -> Versioned:
    """The program in `text`.

    Raises:
        InvalidProgram: with every mistake found.
    """
    try:
        tree = tomllib.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError, ArithmeticError) as error:  # Also numbers and nesting beyond what Python reads.
        raise InvalidProgram([Mistake("$", f"not TOML: {error}")]) from None
    mistakes = list(_struct_mistakes(tree, Program, "$"))
    if mistakes:
        raise InvalidProgram(mistakes)
    program = msgspec.convert(tree, Program)
    mistakes = list(_meaning_mistakes(program))
    if mistakes:
        raise InvalidProgram(mistakes)
    content = msgspec.json.encode(tree, order="sorted")
    return Versioned(program, blake2b(content, digest_size=16).hexdigest())


def _struct_mistakes(tree: Any, kind: type[msgspec.Struct], path: str) -> Iterator[Mistake]:
    """Mistakes of form: what is not a table, unknown and missing keys, values of the wrong type."""
    if not isinstance(tree, dict):
        yield Mistake(path, f"expected a table, got {tree!r}")
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key in sorted(tree.keys() - (fields.keys() - NOT_YET)):
        yield Mistake(f"{path}.{key}", "unknown key", _nearest(key, fields))
    for name, field in fields.items():
        if name in tree and name not in NOT_YET:
            yield from _value_mistakes(tree[name], field.type, f"{path}.{name}")
        elif field.default is NODEFAULT and field.default_factory is NODEFAULT:
            yield Mistake(f"{path}.{name}", "is missing")


def _value_mistakes(value: Any, kind: Any, path: str) -> Iterator[Mistake]:
    """Descends into tables, arrays of tables and named tables; everything else is converted whole."""
    arguments: tuple[Any, ...] = getattr(kind, "__args__", ())
    if len(arguments) == 2 and arguments[1] is type(None) and _is_struct(arguments[0]):
        kind = arguments[0]
    if _is_struct(kind):
        yield from _struct_mistakes(value, kind, path)
    elif getattr(kind, "__origin__", None) is list and _is_struct(arguments[0]) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _struct_mistakes(item, arguments[0], f"{path}[{index}]")
    elif getattr(kind, "__origin__", None) is dict and _is_struct(arguments[1]) and isinstance(value, dict):
        for name, item in value.items():
            yield from _conversion_mistakes(name, arguments[0], f"{path}.{name}")
            yield from _struct_mistakes(item, arguments[1], f"{path}.{name}")
    else:
        yield from _conversion_mistakes(value, kind, path)


def _conversion_mistakes(value: Any, kind: Any, path: str) -> Iterator[Mistake]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, inside = str(error).partition(" - at `$")
        yield Mistake(path + inside.rstrip("`"), message)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _nearest(key: str, known: dict[str, Any]) -> str:
    if key in NOT_YET:
        return "DESIGN.md has it, this version does not judge it yet; leave it out"
    judged = sorted(known.keys() - NOT_YET)
    near = difflib.get_close_matches(key, judged, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(judged)}"


def _meaning_mistakes(program: Program) -> Iterator[Mistake]:
    """Mistakes of meaning: names that lead nowhere, orders that cannot be, empty intervals."""
    try:
        ZoneInfo(program.program.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield Mistake("$.program.time_zone", f"unknown time zone {program.program.time_zone!r}", "for example Europe/Warsaw")
    for name, unit in program.units.items():
        expires = unit.expires
        if expires and (expires.after_days, expires.after_months, expires.fixed_dates).count(None) != 2:
            yield Mistake(f"$.units.{name}.expires", "needs exactly one of after_days, after_months, fixed_dates")
        for text in (expires and expires.fixed_dates) or []:
            if int(text[3:]) > monthrange(LEAP_YEAR, int(text[:2]))[1]:
                yield Mistake(f"$.units.{name}.expires.fixed_dates", f"no year has a {text}")
        yield from _spending_mistakes(unit, f"$.units.{name}")
        if expires and max(expires.after_days or 0, 31 * (expires.after_months or 0)) > 366_000:
            yield Mistake(f"$.units.{name}.expires", "is more than a thousand years", "leave `expires` out for points that never expire")
    seen: dict[str, int] = {}
    for index, rule in enumerate(program.rules):
        path = f"$.rules[{index}]"
        if rule.id in seen:
            yield Mistake(f"{path}.id", f"{rule.id!r} is taken by $.rules[{seen[rule.id]}]", "rule ids are unique")
        seen.setdefault(rule.id, index)
        yield from _rule_mistakes(program, rule, path)


def _spending_mistakes(unit: Unit, path: str) -> Iterator[Mistake]:
    """Terms of spending that nothing can meet, and holding periods beyond any calendar."""
    if unit.hold_days > HOLD_DAYS_MAX:
        yield Mistake(f"{path}.hold_days", f"is more than {HOLD_DAYS_MAX} days")
    spending = unit.spending
    if spending is None:
        return
    if spending.min_percent > spending.max_percent:
        message = f"{spending.max_percent} is less than `min_percent`, {spending.min_percent}"
        yield Mistake(f"{path}.spending.max_percent", message, "points could pay no receipt at all")
    if spending.max_percent == 0:
        yield Mistake(f"{path}.spending.max_percent", "0 allows no points at all", "leave it out to allow the whole receipt")
    if max(spending.worth.points, spending.worth.amount) > MILLI_MAX:
        yield Mistake(f"{path}.spending.worth", f"points and amount may be at most {MILLI_MAX}")
    for table in ("lines", "exclude"):
        for key in ("sku", "category", "brand", "kind"):
            yield from _pattern_mistakes(getattr(getattr(spending, table), key), f"{path}.spending.{table}.{key}")


def _rule_mistakes(program: Program, rule: Rule, path: str) -> Iterator[Mistake]:
    if rule.unit not in program.units:
        yield Mistake(f"{path}.unit", f"unit {rule.unit!r} is not declared", f"add [units.{rule.unit}]")
    if (rule.hold_days or 0) > HOLD_DAYS_MAX:
        yield Mistake(f"{path}.hold_days", f"is more than {HOLD_DAYS_MAX} days")
    if rule.group is not None and rule.group not in program.groups:
        yield Mistake(f"{path}.group", f"group {rule.group!r} is not declared", f"add [groups.{rule.group}]")
    when = rule.when
    if when.hours and not time_of(when.hours[0]) < time_of(when.hours[1]):
        yield Mistake(f"{path}.when.hours", "the first time must come before the second", "split hours over midnight into two rules")
    if when.from_ and when.to and when.from_ > when.to:
        yield Mistake(f"{path}.when.to", f"{when.to} comes before `from`, {when.from_}")
    yield from _pattern_mistakes(when.store, f"{path}.when.store")
    for table in ("lines", "exclude"):
        for key in ("sku", "category", "brand", "kind"):
            yield from _pattern_mistakes(getattr(getattr(rule, table), key), f"{path}.{table}.{key}")
    yield from _award_mistakes(program, rule, f"{path}.award")


def _pattern_mistakes(patterns: list[str] | None, path: str) -> Iterator[Mistake]:
    for pattern in patterns or []:
        if any("**" in segment and segment != "**" for segment in pattern.split("/")):
            yield Mistake(path, f"`**` is a whole segment, not part of one: {pattern!r}")
        if path.endswith(".kind") and "*" not in pattern and pattern not in LINE_KINDS:
            yield Mistake(path, f"no line is of kind {pattern!r}", f"kinds are {', '.join(LINE_KINDS)}")


def time_of(text: str) -> int:
    """Minutes since local midnight of `HH:MM`; 24:00 is the day's end."""
    if text == "24:00":
        return 24 * 60
    moment = time.fromisoformat(text)
    return moment.hour * 60 + moment.minute


def _award_mistakes(program: Program, rule: Rule, path: str) -> Iterator[Mistake]:
    award: Award = rule.award
    form = award_form(award)
    if form is None:
        yield Mistake(path, "spells no known form", "points + per_amount | per_item | per_line, fixed, steps, multiply + of")
        return
    if mistakes := list(_number_mistakes(award, path)):
        yield from mistakes
        return
    if award.points is not None and award.points < 0:
        yield Mistake(f"{path}.points", "must not be negative")
    if award.points is not None and form != "per_amount" and award.points != int(award.points):
        yield Mistake(f"{path}.points", "must be whole here")
    if max(award.per_amount or 1, award.per_item or 1, award.per_line or 1) > MILLI_MAX:
        yield Mistake(path, f"a divisor may be at most {MILLI_MAX}")
    elif form == "per_amount" and (Fraction(award.points or 0) / (award.per_amount or 1)).denominator > INT64_MAX:
        yield Mistake(path, "points / per_amount is too fine for 64 bits", "fewer decimals, or a smaller per_amount")
    if award.steps and [step[0] for step in award.steps] != sorted({step[0] for step in award.steps}):
        yield Mistake(f"{path}.steps", "the minima must rise")
    if form == "multiply":
        yield from _multiply_mistakes(program, rule, path)


def _number_mistakes(award: Award, path: str) -> Iterator[Mistake]:
    """Decimals that are no numbers, or whose exact fraction would not fit; the exponent is looked at first: the fraction may be huge."""
    for key in ("points", "multiply"):
        number: Decimal | None = getattr(award, key)
        if number is None:
            continue
        if not number.is_finite():
            yield Mistake(f"{path}.{key}", f"{number} is no number to count with")
        elif not -DIGITS_MAX <= int(number.as_tuple().exponent) <= DIGITS_MAX or max(map(abs, number.as_integer_ratio())) > MILLI_MAX:
            yield Mistake(f"{path}.{key}", "is too large or has too many digits", f"as a fraction both parts must stay below {MILLI_MAX}")


def _multiply_mistakes(program: Program, rule: Rule, path: str) -> Iterator[Mistake]:
    factor = rule.award.multiply
    if factor is None or factor < 1:
        yield Mistake(f"{path}.multiply", "must be at least 1: 3 makes three times as many in all")
    order = ordered(program.rules)
    sources = [other for other in order if other.id == rule.award.of]
    if not sources:
        yield Mistake(f"{path}.of", f"no rule is called {rule.award.of!r}")
        return
    source = sources[0]
    if order.index(source) >= order.index(rule):
        yield Mistake(f"{path}.of", f"{source.id!r} must be judged before this rule", "give it a lower priority or move it up")
    if source.unit != rule.unit:
        yield Mistake(f"{path}.of", f"{source.id!r} gives {source.unit!r}, this rule {rule.unit!r}")
    group = program.groups.get(source.group or "")
    rivals = [other for other in order if other.group == source.group]
    if group and group.stacking == "best" and order.index(rivals[-1]) >= order.index(rule):
        yield Mistake(f"{path}.of", f"whether {source.id!r} wins its group is not known yet here", "judge this rule after the whole group")
