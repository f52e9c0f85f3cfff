"""Awards, caps and shares with their numbers filled in: what a rule's arithmetic was, as text that can be followed by hand (DESIGN.md §5).

In: a rule and what it looked at. Out: numbers, and the formula that leads to them.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from tillstream.kernels.bonuses import award_of as bonus_award
from tillstream.kernels.periods import period
from tillstream.kernels.reversal import spread, undone
from tillstream.kernels.terms import total
from tillstream.schemas.explanations import Cut, Share
from tillstream.schemas.member_state import Member
from tillstream.schemas.programs import Award, Rule, award_form
from tillstream.schemas.receipts import Line


class Awarded(NamedTuple):
    """An award before its caps, and the formula with its numbers."""

    points: int
    formula: str


def award_for_lines(rule: Rule, lines: Sequence[Line], basis: int, source: int) -> Awarded:
    """What a rule awards for its eligible lines; `source`: what the rule that it multiplies gave them."""
    award, form = rule.award, award_form(rule.award)
    if form == "per_amount":
        return amount_award(rule, basis)
    if form == "multiply":
        points = rounded(source * (fraction(award.multiply) - 1), rule.rounding)
        formula = f"{rule.rounding}(({plain(award.multiply)} - 1) x {source}) = {points}"
        return Awarded(points, f"{formula}, {source} being what rule {award.of} gave these lines")
    if form == "steps":
        return step_award(award, basis)
    each = int(award.points or 0)
    if award.per_item is not None:
        size = award.per_item
        count = sum(line.quantity_milli // 1000 // size for line in lines)
        counted = f"{count} whole articles" if size == 1 else f"{count} full sets of {size} articles"
        return Awarded(each * count, f"{each} x {count} = {each * count}, by {counted}, line by line")
    if award.per_line is not None:
        count = len(lines) // award.per_line
        return Awarded(each * count, f"{each} x floor({len(lines)} / {award.per_line}) = {each * count}, by {len(lines)} lines")
    return Awarded(award.fixed or 0, f"{award.fixed} at once")


def award_for_count(rule: Rule, count: int) -> Awarded:
    """What a rule awards that answers to something else than a receipt, for what was counted."""
    award, points = rule.award, bonus_award(rule, count)
    if award.fixed is not None:
        return Awarded(points, f"{award.fixed} at once" if points else f"0, as {count} was counted")
    if award.steps is not None:
        return step_award(award, count)
    if award.per_item is not None:
        return Awarded(points, f"{int(award.points or 0)} x floor({count} / {award.per_item}) = {points}")
    return amount_award(rule, count)


def amount_award(rule: Rule, basis: int) -> Awarded:
    points, per = rule.award.points, rule.award.per_amount or 1
    found = rounded(basis * fraction(points) / per, rule.rounding)
    return Awarded(found, f"{rule.rounding}({basis} x {plain(points)} / {per}) = {found}")


def step_award(award: Award, basis: int) -> Awarded:
    """The points of the highest minimum that `basis` reaches."""
    reached = [(least, points) for least, points in sorted(award.steps or []) if least <= basis]
    if not reached:
        return Awarded(0, f"{basis} stays below {min(least for least, _ in award.steps or [])}: 0")
    least, points = reached[-1]
    return Awarded(points, f"{basis} reaches {least}: {points}")


def cuts_of(rule: Rule, award: int, member: Member, day: date, left: int | None) -> Iterator[Cut]:
    """The caps that cut an award, in their order; `left`: of the budget, None where it is not known to have cut anything."""
    cap, points = rule.cap, award
    if cap.per_receipt is not None and points > cap.per_receipt:
        points = cap.per_receipt
        yield Cut("cap.per_receipt", cap.per_receipt, "receipt", 0, points)
    if cap.per_member is not None:
        spent = total(member.given.get(rule.id), period(day, cap.per_member.per))
        room = max(0, cap.per_member.points - spent)
        if points > room:
            points = room
            yield Cut("cap.per_member", cap.per_member.points, cap.per_member.per, spent, points)
    if cap.budget is not None and left is not None and points > left:
        yield Cut("cap.budget", cap.budget, "campaign", cap.budget - left, left)


def shares_of(points: int, weights: Sequence[int], numbers: Sequence[int]) -> list[Share]:
    """How points fall to lines by largest remainder."""
    weights = weights if any(weights) else [1] * len(weights)
    whole = sum(weights)
    parts = spread(points, list(weights), list(numbers))
    found = []
    for number, weight, part in zip(numbers, weights, parts, strict=True):
        least, remainder = divmod(points * weight, whole)
        found.append(Share(number, weight, whole, least, remainder, part - least, part))
    return found


def undone_formula(points: int, returned: int, bought: int, returned_milli: int, bought_milli: int) -> str:
    """How many of a line's points are reversed once so much of it came back (kernels/reversal.pyx).

    >>> undone_formula(16, 800, 1599, 500, 1250), undone_formula(16, 1599, 1599, 0, 1250)
    ('floor(16 x 800 / 1599) = 8', 'all of the line came back: 16')
    """
    result = undone(points, returned, bought, returned_milli, bought_milli)
    if bought == 0:
        returned, bought = returned_milli, bought_milli
    if returned >= bought:
        return f"all of the line came back: {result}"
    return f"floor({points} x {returned} / {bought}) = {result}"


def fraction(number: Decimal | None) -> Fraction:
    return Fraction(str(number or 0))


def plain(number: Decimal | None) -> str:
    """Without an exponent.

    >>> plain(Decimal("1E+3")), plain(Decimal("0.50"))
    ('1000', '0.50')
    """
    return f"{number or Decimal(0):f}"


def rounded(exact: Fraction, rounding: str) -> int:
    return {"floor": exact.__floor__(), "ceil": exact.__ceil__(), "half_up": (exact + Fraction(1, 2)).__floor__()}[rounding]
