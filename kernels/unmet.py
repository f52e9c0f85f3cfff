"""Why a rule does not apply to a receipt or an event, as far as its own conditions go: the first that does not hold, and both its sides.

In: a rule, a sale or a local moment. Out: an `Unmet`, whose path is the key in the program file; None where the conditions hold.
Conditions on the member are unmet_member.py's; what other rules, the award and caps do is explaining.py's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from tillstream.kernels.rules import EARNING_KINDS, WEEKDAYS, matches, minute_is_open
from tillstream.schemas.explanations import Unmet
from tillstream.schemas.programs import Rule
from tillstream.schemas.receipts import Line, Sale

GOODS = ("category", "brand", "sku", "kind")
"""The order in which goods are looked at; a line must pass them all, so the order decides only which one is named."""


def unmet_moment(rule: Rule, local: datetime, what: str = "it") -> Unmet | None:
    """The conditions on the local moment alone; `what` is of that moment."""
    when, day = rule.when, local.date()
    weekday = WEEKDAYS[local.weekday()]
    if when.weekday is not None and weekday not in when.weekday:
        return Unmet("when.weekday", either(when.weekday), f"{what} is of {weekday}")
    if when.hours is not None and not minute_is_open(rule, local.hour * 60 + local.minute):
        return Unmet("when.hours", f"from {when.hours[0]} and before {when.hours[1]}", f"{what} is of {local:%H:%M}")
    if when.from_ is not None and day < when.from_:
        return Unmet("when.from", f"{when.from_} or later", f"{what} is of {day}")
    if when.to is not None and day > when.to:
        return Unmet("when.to", f"{when.to} or earlier", f"{what} is of {day}")
    return None


def unmet_receipt(rule: Rule, sale: Sale) -> Unmet | None:
    """The conditions on the receipt as a whole."""
    when = rule.when
    amount, positions = sum(line.amount for line in sale.lines), sum(line.quantity_milli > 0 for line in sale.lines)
    if when.store is not None and not matches(when.store, sale.store_id):
        return Unmet("when.store", either(when.store), f"the store is {sale.store_id}")
    if amount < (when.min_amount or 0):
        return Unmet("when.min_amount", f"{when.min_amount}", f"all lines come to {amount}")
    if positions < (when.min_positions or 0):
        return Unmet("when.min_positions", f"{when.min_positions}", f"the receipt has {positions}")
    return None


def unmet_activity(rule: Rule, fields: Mapping[str, object] | None) -> Unmet:
    """The free fields of an activity did not match; None: what they said is not known any more."""
    terms = rule.activity or {}
    name = next((name for name, values in terms.items() if fields is None or fields.get(name) not in values), next(iter(terms)))
    said = "the event says otherwise" if fields is None else f"the event says {fields.get(name, 'nothing')}"
    return Unmet(f"activity.{name}", either(terms[name]), said)


def eligible(rule: Rule, lines: Sequence[Line]) -> list[Line] | Unmet:
    """The lines that a rule looks at; or which key left none, or too little."""
    if not lines:
        return Unmet("lines", "a line", "the receipt has none")
    left = list(lines)
    for path, wanted, passes in line_keys(rule):
        before, left = left, [line for line in left if passes(line)]
        if not left:
            return Unmet(path, wanted, none_of(len(before), whole=len(before) == len(lines)))
    amount, quantity = sum(line.amount for line in left), sum(line.quantity_milli for line in left)
    if amount < (rule.lines.min_amount or 0):
        return Unmet("lines.min_amount", f"{rule.lines.min_amount}", f"eligible lines come to {amount}")
    if quantity < (rule.lines.min_quantity_milli or 0):
        return Unmet("lines.min_quantity_milli", f"{rule.lines.min_quantity_milli}", f"eligible lines come to {quantity}")
    return left


def unmet_line(rule: Rule, line: Line) -> Unmet | None:
    """The first key that keeps one line out."""
    for path, wanted, passes in line_keys(rule):
        if not passes(line):
            value = getattr(line, path.partition(".")[2])
            return Unmet(path, wanted, "the line has none" if value is None else f"the line is {value}")
    return None


def line_keys(rule: Rule) -> Iterator[tuple[str, str, Callable[[Line], bool]]]:
    """Per key of `lines` and `exclude` its path, what it wants, and whether a line passes it; kinds that are not named included."""
    for key in GOODS:
        wanted: list[str] | None = getattr(rule.lines, key)
        if wanted is not None:
            yield f"lines.{key}", either(wanted), having(key, wanted)
        elif key == "kind":
            yield "lines.kind", f"{either(EARNING_KINDS)}, as no other is named,", having(key, EARNING_KINDS)
    for key in GOODS:
        unwanted: list[str] | None = getattr(rule.exclude, key)
        if unwanted is not None:
            yield f"exclude.{key}", f"anything but {either(unwanted)}", lacking(key, unwanted)


def having(key: str, patterns: list[str]) -> Callable[[Line], bool]:
    return lambda line: matches(patterns, getattr(line, key))


def lacking(key: str, patterns: list[str]) -> Callable[[Line], bool]:
    return lambda line: not matches(patterns, getattr(line, key))


def none_of(count: int, *, whole: bool) -> str:
    """That none of `count` lines matches, which are the `whole` receipt or what earlier keys left of it."""
    if whole:
        return "no line matches"
    return "the only line left does not match" if count == 1 else f"none of the {count} lines left matches"


def either(values: Sequence[object]) -> str:
    """Alternatives in words.

    >>> either(["sat", "sun"])
    'sat or sun'
    """
    texts = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    return texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + f" or {texts[-1]}"
