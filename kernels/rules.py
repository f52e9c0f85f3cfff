"""A program compiled for the kernels: one row per rule, in the order in which they are judged, in columns of 64-bit integers.

    column             meaning
    form               index into FORMS
    numerator, divisor the award as an exact fraction: points / per_amount, points / per_item, (n - 1) / 1, ...
    rounding           index into ROUNDINGS
    cap                most points per receipt, NONE without
    group, stacking    number of the rule's group, NONE without; index into STACKINGS
    source             row of the rule that `multiply` is `of`, NONE without
    unit               number of the unit that it gives, in the program's order
    room               column of the room that member caps, budgets and the like leave per receipt, NONE without
    steps_first/_count where the rule's rows stand in step_min, step_points

What a rule demands of a line, a store, a date or a minute of the day becomes a bit per rule (`Bits`): bit k of word k // 64 says that the
value does not stand in the way of rule k. Each distinct value is judged once and remembered. Behind the rules come the *watches*: goods
that no rule awards but that some condition looks for in what was bought; they have bits like rules, and no columns. First those of the
program itself, then those that only other versions look for.
"""

from array import array
from collections.abc import Callable, Mapping
from datetime import date
from fractions import Fraction
from hashlib import blake2b
from typing import Any

import msgspec

from tillstream.kernels.globs import compile_glob
from tillstream.schemas.program_file import time_of
from tillstream.schemas.program_parts import Goods
from tillstream.schemas.programs import AWARD_FORMS, Award, Bought, Lines, Program, Rule, award_form, ordered

FORMS = tuple(AWARD_FORMS.values())
ROUNDINGS = ("floor", "half_up", "ceil")
STACKINGS = ("all", "best", "first")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EARNING_KINDS = ["item", "service"]
NONE = -1

VALUES_MAX = 200_000
"""Distinct values that one `Bits` remembers: beyond the goods of a large chain; then it starts afresh, so memory stays bounded."""

COLUMNS = (
    "form", "numerator", "divisor", "rounding", "cap", "group", "stacking", "exclusive", "gross", "source", "min_amount", "min_positions",
    "lines_min_amount", "lines_min_quantity", "steps_first", "steps_count", "unit", "room",
)  # fmt: skip


class Bits:
    """Remembers, per distinct value, the words that say which rules it leaves open."""

    def __init__(self, rules: list[Rule], leaves_open: Callable[[Rule, Any], bool]) -> None:
        self.rules = rules
        self.leaves_open = leaves_open
        self.known: dict[Any, bytes] = {}

    def words(self, value: Any) -> bytes:
        """The words for `value`, native 64-bit integers; every word is there, also where no rule cares."""
        found = self.known.get(value)
        if found is None:
            if len(self.known) >= VALUES_MAX:
                self.known.clear()
            found = self.known[value] = self._judge(value)
        return found

    def _judge(self, value: Any) -> bytes:
        words = array("Q", bytes(8 * words_for(self.rules)))
        for row, rule in enumerate(self.rules):
            if self.leaves_open(rule, value):
                words[row // 64] |= 1 << row % 64
        return words.tobytes()


def words_for(rules: list[Rule]) -> int:
    """64-bit words that a bit per rule takes; at least one."""
    return max(1, (len(rules) + 63) // 64)


class CompiledRules:
    """The columns of a program's rules for receipts, and the `Bits` of everything a rule may demand.

    `also` are the watches of other versions; `others` their ids, in the order of their rows.
    """

    def __init__(self, program: Program, also: Mapping[str, Rule] | None = None) -> None:
        self.rules = [rule for rule in ordered(program.rules) if rule.on == "receipt"]
        own = watches(program)
        self.watches = own | {name: rule for name, rule in (also or {}).items() if name not in own}
        self.others = list(self.watches)[len(own) :]
        rows_of_bits = [*self.rules, *self.watches.values()]
        self.words = words_for(rows_of_bits)
        self.rooms = [rule.id for rule in self.rules if rule.cap.per_member is not None or rule.cap.budget is not None]
        self.columns = {name: array("q", bytes(8 * len(self.rules))) for name in COLUMNS}
        self.step_min, self.step_points = array("q"), array("q")
        self.units = list(program.units)
        groups = list(dict.fromkeys(rule.group for rule in self.rules if rule.group is not None))
        rows = {rule.id: row for row, rule in enumerate(self.rules)}
        for row, rule in enumerate(self.rules):
            for name, value in self._row(program, rule, groups, rows).items():
                self.columns[name][row] = value
        self.stores = Bits(rows_of_bits, lambda rule, store: matches(rule.when.store, store))
        self.dates = Bits(rows_of_bits, date_is_open)
        self.minutes = Bits(rows_of_bits, minute_is_open)
        self.skus = Bits(rows_of_bits, lambda rule, sku: goods_are_open(rule, "sku", sku))
        self.categories = Bits(rows_of_bits, lambda rule, category: goods_are_open(rule, "category", category))
        self.brands = Bits(rows_of_bits, lambda rule, brand: goods_are_open(rule, "brand", brand))
        self.kinds = Bits(rows_of_bits, kind_is_open)
        self.judges_skus = any(rule.lines.sku or rule.exclude.sku for rule in rows_of_bits)

    def _row(self, program: Program, rule: Rule, groups: list[str], rows: dict[str, int]) -> dict[str, int]:
        form = award_form(rule.award) or ""
        numerator, divisor = award_ratio(rule, form)
        steps = rule.award.steps or []
        first = len(self.step_min)
        self.step_min.extend(step[0] for step in steps)
        self.step_points.extend(step[1] for step in steps)
        return {
            "form": FORMS.index(form),
            "numerator": numerator,
            "divisor": divisor,
            "rounding": ROUNDINGS.index(rule.rounding),
            "cap": NONE if rule.cap.per_receipt is None else rule.cap.per_receipt,
            "group": NONE if rule.group is None else groups.index(rule.group),
            "stacking": 0 if rule.group is None else STACKINGS.index(program.groups[rule.group].stacking),
            "exclusive": rule.exclusive,
            "gross": rule.earn_on_points_tender,
            "source": NONE if rule.award.of is None else rows[rule.award.of],
            "min_amount": rule.when.min_amount or 0,
            "min_positions": rule.when.min_positions or 0,
            "lines_min_amount": rule.lines.min_amount or 0,
            "lines_min_quantity": rule.lines.min_quantity_milli or 0,
            "steps_first": first,
            "steps_count": len(steps),
            "unit": self.units.index(rule.unit),
            "room": self.rooms.index(rule.id) if rule.id in self.rooms else NONE,
        }


def watches(program: Program) -> dict[str, Rule]:
    """What must be counted of what was bought, by an id made of what it looks for, as rules that give nothing."""
    found: dict[str, Rule] = {}
    for rule in program.rules:
        if rule.member is not None and rule.member.bought is not None:
            found.setdefault(bought_id(rule.member.bought), Rule(id="", award=Award(fixed=0), lines=bought_lines(rule.member.bought)))
        if rule.target is not None:
            found.setdefault(target_id(rule), Rule(id="", award=Award(fixed=0), lines=rule.lines, exclude=rule.exclude))
    return found


def bought_lines(bought: Bought) -> Lines:
    """The lines that a purchase condition looks for."""
    given = (bought.sku, bought.category, bought.brand, bought.kind)
    sku, category, brand, kind = ([key] if isinstance(key, str) else key for key in given)
    return Lines(sku=sku, category=category, brand=brand, kind=kind)


def bought_id(bought: Bought) -> str:
    """The same for all conditions that look for the same goods, however far back."""
    return watch_id("lines", bought_lines(bought), Goods())


def target_id(rule: Rule) -> str:
    """The same for all targets that count the same goods in the same way."""
    return watch_id("" if rule.target is None else rule.target.count, rule.lines, rule.exclude)


def watch_id(count: str, lines: Lines, exclude: Goods) -> str:
    """What is counted, and a hash of the goods: it stands in every ledger record of a member, so it is short."""
    return f"{count} {blake2b(msgspec.json.encode((lines, exclude)), digest_size=6).hexdigest()}"


def award_ratio(rule: Rule, form: str) -> tuple[int, int]:
    """(numerator, divisor) of the award; whole items and lines are counted before they are multiplied, so theirs stays unreduced."""
    award = rule.award
    points = Fraction(str(award.points or 0))
    if form == "per_amount":
        return (points / (award.per_amount or 1)).as_integer_ratio()
    if form == "multiply":
        return (Fraction(str(award.multiply)) - 1).as_integer_ratio()
    return {
        "fixed": (award.fixed or 0, 1),
        "steps": (0, 1),
        "per_item": (int(points), award.per_item or 1),
        "per_line": (int(points), award.per_line or 1),
    }[form]


def matches(patterns: list[str] | None, value: str | None) -> bool:
    """No patterns demand nothing; otherwise one of them must match, and nothing matches a missing value."""
    if patterns is None:
        return True
    return value is not None and any(compile_glob(pattern).fullmatch(value) for pattern in patterns)


def goods_are_open(rule: Rule, key: str, value: str | None) -> bool:
    wanted, unwanted = getattr(rule.lines, key), getattr(rule.exclude, key)
    return matches(wanted, value) and (unwanted is None or not matches(unwanted, value))


def kind_is_open(rule: Rule, kind: str) -> bool:
    """Only `item` and `service` earn unless the rule names the kind."""
    excluded: Goods = rule.exclude
    return matches(rule.lines.kind or EARNING_KINDS, kind) and not (excluded.kind and matches(excluded.kind, kind))


def date_is_open(rule: Rule, day: date) -> bool:
    when = rule.when
    return (
        (when.weekday is None or WEEKDAYS[day.weekday()] in when.weekday)
        and (when.from_ is None or when.from_ <= day)
        and (when.to is None or day <= when.to)
    )


def minute_is_open(rule: Rule, minute: int) -> bool:
    """`hours` holds from the first minute up to but not at the second."""
    hours = rule.when.hours
    return hours is None or time_of(hours[0]) <= minute < time_of(hours[1])
