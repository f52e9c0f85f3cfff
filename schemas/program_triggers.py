"""Mistakes in what a rule answers to: keys that mean nothing to its trigger, keys that the trigger needs, exchanges that never end."""

from collections.abc import Iterator

from tillstream.schemas.mistakes import Mistake, nearest
from tillstream.schemas.program_parts import Goods
from tillstream.schemas.programs import Cap, Lines, Program, Rule, award_form

ACTIVITY = "activity."

AWARDS = {
    "enrolled": ("fixed",),
    "birthday": ("fixed",),
    "tier_up": ("fixed",),
    "balance": ("fixed",),
    "activity": ("fixed", "per_item"),
    "period_end": ("fixed", "steps", "per_amount"),
}
"""The forms of award that each trigger but `receipt` can judge."""

DUE_AT_MIDNIGHT = ("birthday", "period_end")

NEEDED_BY = {"exchange": "balance", "target": "period_end"}


def trigger_mistakes(program: Program, rule: Rule, path: str) -> Iterator[Mistake]:
    """What does not go together with the rule's `on`."""
    for key, trigger in NEEDED_BY.items():
        given = getattr(rule, key) is not None
        if given and rule.on != trigger:
            yield Mistake(f"{path}.{key}", f'belongs to rules with on = "{trigger}"')
        elif not given and rule.on == trigger:
            yield Mistake(f"{path}.{key}", f'is missing: a rule with on = "{trigger}" needs it')
    if rule.activity is not None and not rule.on.startswith(ACTIVITY):
        yield Mistake(f"{path}.activity", 'belongs to rules with on = "activity.<name>"')
    for name, values in (rule.activity or {}).items():
        if not values:
            yield Mistake(f"{path}.activity.{name}", "has no value, so no event can have it")
    if rule.on == "tier_up" and program.tiers is None:
        yield Mistake(f"{path}.on", "no tier can be reached: the program has none", "add [tiers]")
    if rule.exchange is not None:
        yield from _exchange_mistakes(program, rule, rule.exchange.unit, path)
    if rule.on != "receipt":
        yield from _receipt_terms(rule, path)
        yield from _award_mistakes(rule, path)


def _receipt_terms(rule: Rule, path: str) -> Iterator[Mistake]:
    """Keys that look at a receipt, in a rule that sees none."""
    when, lines, nothing = rule.when, rule.lines, f'a rule with on = "{rule.on}" sees no receipt'
    for key in ("store", "min_amount", "min_positions"):
        if getattr(when, key) is not None:
            yield Mistake(f"{path}.when.{key}", nothing)
    if rule.on == "period_end":
        for key in ("min_amount", "min_quantity_milli"):
            if getattr(lines, key) is not None:
                yield Mistake(f"{path}.lines.{key}", nothing, "`steps` say from which count on there is an award")
    else:
        if lines != Lines():
            yield Mistake(f"{path}.lines", nothing)
        if rule.exclude != Goods():
            yield Mistake(f"{path}.exclude", nothing)
    if rule.earn_on_points_tender:
        yield Mistake(f"{path}.earn_on_points_tender", nothing)
    if rule.cap.per_receipt is not None:
        yield Mistake(f"{path}.cap.per_receipt", nothing, "per_member and budget limit it")
    if rule.on_return == "requalify":
        yield Mistake(f"{path}.on_return", nothing)
    if rule.on in DUE_AT_MIDNIGHT and when.hours is not None and when.hours[0] != "00:00":
        yield Mistake(f"{path}.when.hours", f"{rule.on} falls due at 00:00, which is not among these")


def _exchange_mistakes(program: Program, rule: Rule, unit: str, path: str) -> Iterator[Mistake]:
    """An exchange takes something for what it gives: a limit would take it for nothing."""
    if unit not in program.units:
        hint = nearest(unit, program.units, f"add [units.{unit}]")
        yield Mistake(f"{path}.exchange.unit", f"unit {unit!r} is not declared", hint)
    for key, limits in (("cap", rule.cap != Cap()), ("once", rule.once is not None), ("group", rule.group is not None)):
        if limits:
            yield Mistake(f"{path}.{key}", "an exchange can't be cut short: the units are taken", "`member` and `when` say when it is made")
    if rule.exclusive:
        yield Mistake(f"{path}.exclusive", "an exchange keeps no other rule away: each is made while there is enough")


def _award_mistakes(rule: Rule, path: str) -> Iterator[Mistake]:
    form, allowed = award_form(rule.award), AWARDS["activity" if rule.on.startswith(ACTIVITY) else rule.on]
    if form is not None and form not in allowed:
        yield Mistake(f"{path}.award", f'a rule with on = "{rule.on}" can\'t award {form!r}', f"it can {', '.join(allowed)}")


def exchange_mistakes(program: Program) -> Iterator[Mistake]:
    """Exchanges that lead back to where they began: each would feed the other, for ever."""
    leads: dict[str, set[str]] = {}
    for rule in program.rules:
        if rule.exchange is not None:
            leads.setdefault(rule.exchange.unit, set()).add(rule.unit)
    for index, rule in enumerate(program.rules):
        if rule.exchange is not None and rule.exchange.unit in _reached(leads, rule.unit):
            message = f"{rule.exchange.unit!r} becomes {rule.unit!r}, and that becomes {rule.exchange.unit!r} again"
            yield Mistake(f"$.rules[{index}].exchange", message, "exchanges run one way")


def _reached(leads: dict[str, set[str]], unit: str) -> set[str]:
    """The units that `unit` may become, itself included."""
    found, ahead = set[str](), [unit]
    while ahead:
        here = ahead.pop()
        if here not in found:
            found.add(here)
            ahead.extend(leads.get(here, ()))
    return found
