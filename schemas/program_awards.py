"""Mistakes in what a rule awards: forms that nobody knows, numbers that nobody can count with, multiples of what is not there."""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

from tillstream.schemas.fields import INT64_MAX
from tillstream.schemas.mistakes import Mistake, nearest
from tillstream.schemas.programs import Award, Program, Rule, award_form, ordered

DIGITS_MAX = 15

MILLI_MAX = 10**DIGITS_MAX
"""Bounds factors of an award, so that `1000 * per_item` and the like stay within 64 bits."""


def award_mistakes(program: Program, rule: Rule, path: str) -> Iterator[Mistake]:
    """What is wrong with the award of `rule`, which stands at `path`."""
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
        yield Mistake(f"{path}.of", f"no rule is called {rule.award.of!r}", nearest(rule.award.of or "", [other.id for other in order]))
        return
    source = sources[0]
    if source.on != rule.on:
        yield Mistake(f"{path}.of", f"{source.id!r} answers to {source.on!r}, this rule to {rule.on!r}")
    if order.index(source) >= order.index(rule):
        yield Mistake(f"{path}.of", f"{source.id!r} must be judged before this rule", "give it a lower priority or move it up")
    if source.unit != rule.unit:
        yield Mistake(f"{path}.of", f"{source.id!r} gives {source.unit!r}, this rule {rule.unit!r}")
    group = program.groups.get(source.group or "")
    rivals = [other for other in order if other.group == source.group]
    if group and group.stacking == "best" and order.index(rivals[-1]) >= order.index(rule):
        yield Mistake(f"{path}.of", f"whether {source.id!r} wins its group is not known yet here", "judge this rule after the whole group")
