"""Advice on a program: what is allowed and probably not meant. Nothing here is a mistake, and nothing is refused.

In: a `Program` without mistakes. Out: overlapping rules, rules that can never apply, points that may cost more than is earned, points that
are owed for ever, offers without an end. What the advice knows is what stands in the file; it errs on the side of silence.
"""

from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from typing import NamedTuple

from tillstream.schemas.program_offers import Offer
from tillstream.schemas.program_overlap import can_meet, covers
from tillstream.schemas.programs import Program, Rule, Unit, award_form, ordered

SHARE_MAX = Fraction(20, 100)
"""Of what was paid: more than a fifth given back in points, without a limit, is rarely meant in retail."""

DAY = timedelta(days=1)

BARE_EVENTS = {"page_view", "search"}
"""Events on pages that are about no goods."""

NAMED_MAX = 3
"""Rules that one piece of advice names; the rest are counted."""


class Advice(NamedTuple):
    """One thing to look at again."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" + (f" ({self.hint})" if self.hint else "")


def advice(program: Program) -> list[Advice]:
    """Everything worth a second look, in the order of the file."""
    found = [item for name, unit in program.units.items() for item in _unit_advice(name, unit)]
    place = {rule.id: index for index, rule in enumerate(program.rules)}
    order = ordered(program.rules)
    for rule in program.rules:
        path, earlier = f"$.rules[{place[rule.id]}]", order[: order.index(rule)]
        unreachable = list(_unreachable(program, rule, earlier, path))
        found += unreachable or [*_overlaps(rule, earlier, path), *_liability(program, rule, path)]
    return found + [item for place, offer in enumerate(program.offers) for item in _offer_advice(program, offer, f"$.offers[{place}]")]


def _unit_advice(name: str, unit: Unit) -> Iterator[Advice]:
    if unit.expires is None:
        yield Advice(f"$.units.{name}", "never expires: what is not spent is owed for ever", "give it `expires`, if that is not meant")


def _unreachable(program: Program, rule: Rule, earlier: list[Rule], path: str) -> Iterator[Advice]:
    begins = program.program.effective_from
    if rule.when.to and begins and rule.when.to < begins:
        yield Advice(f"{path}.when.to", f"never applies: it ends on {rule.when.to}, the program begins on {begins}")
    for other in earlier:
        first = other.group is not None and other.group == rule.group and program.groups[other.group].stacking == "first"
        if (other.exclusive or first) and covers(other, rule):
            why = "is exclusive and" if other.exclusive else "is of the same group, of which the first gives, and"
            yield Advice(path, f"never applies: {other.id!r} {why} applies whenever this one would", "give this one the lower priority")
            return


def _overlaps(rule: Rule, earlier: list[Rule], path: str) -> Iterator[Advice]:
    """Rules that give the same unit in the same way at once, and share no group that would say whether that is meant."""
    form = award_form(rule.award)
    met = [
        other.id
        for other in earlier
        if other.unit == rule.unit
        and award_form(other.award) == form
        and (other.group is None or other.group != rule.group)
        and not other.exclusive
        and can_meet(other, rule)
    ]
    if met:
        more = f" and {len(met) - NAMED_MAX} more" if len(met) > NAMED_MAX else ""
        names = ", ".join(repr(name) for name in met[:NAMED_MAX]) + more
        yield Advice(path, f"may give together with {names}, in the same way and unit", "put them into one group, if only one is to give")


def _liability(program: Program, rule: Rule, path: str) -> Iterator[Advice]:
    """What a rule may cost without any limit."""
    limited = rule.cap.per_member is not None or rule.cap.budget is not None
    if rule.on.startswith("activity."):
        if not limited and rule.once is None:
            yield Advice(path, f"gives for every {rule.on}, as often as anybody likes", "limit it by `once` or `cap`")
        return
    unit = program.units[rule.unit]
    if rule.on != "receipt" or limited or rule.cap.per_receipt is not None or rule.once is not None or unit.spending is None:
        return
    worth = Fraction(unit.spending.worth.amount, unit.spending.worth.points)
    points = points_per_minor_unit(program, rule)
    if points is None:
        yield Advice(f"{path}.award", "may give more than was paid: it has no cap and asks for no amount", "add `cap`, or a `min_amount`")
    elif points * worth > SHARE_MAX:
        share = f"{float(100 * points * worth):.4g}% of what was paid, without a cap"
        yield Advice(f"{path}.award", f"may give back {share}", f"advice begins above {float(SHARE_MAX):.0%}")


def _offer_advice(program: Program, offer: Offer, path: str) -> Iterator[Advice]:
    begins, occasion = program.program.effective_from, offer.trigger
    if offer.to and begins and offer.to < begins:
        yield Advice(f"{path}.to", f"is never made: it ends on {offer.to}, the program begins on {begins}")
    if occasion.event and set(occasion.event) <= BARE_EVENTS and (occasion.sku or occasion.category):
        yield Advice(f"{path}.trigger", "is rarely met: these events mostly name no goods", "view_item and add_to_cart do")
    if offer.budget is None:
        yield Advice(path, "has no budget: nothing bounds how often it is made", "add `budget`")
    if offer.cap.per_member is None and offer.cool_down is None:
        yield Advice(path, "may be made to a member again as soon as it has ended", "add `cap.per_member` or `cool_down`")
    if offer.model is not None and offer.min_score is None:
        yield Advice(f"{path}.model", "only orders offers: without `min_score` the least likely member gets it too")
    if offer.answer.days * DAY < offer.valid_for.length:
        yield Advice(f"{path}.answer.days", "ends before the offer does: what is answered later counts as nothing")


def points_per_minor_unit(program: Program, rule: Rule) -> Fraction | None:
    """The most points that a rule gives for one minor unit of the eligible lines or of the receipt; None: there is no such bound."""
    award, least = rule.award, max(rule.when.min_amount or 0, rule.lines.min_amount or 0)
    form = award_form(award)
    if form == "per_amount":
        return Fraction(award.points or 0) / (award.per_amount or 1)
    if form == "fixed":
        return Fraction(award.fixed or 0, least) if least else (None if award.fixed else Fraction(0))
    if form == "steps":
        rates = [Fraction(points, max(start, least)) if max(start, least) else None for start, points in award.steps or [] if points]
        return None if None in rates else max((rate for rate in rates if rate is not None), default=Fraction(0))
    if form == "multiply":
        source = next(other for other in program.rules if other.id == award.of)
        rate = points_per_minor_unit(program, source)
        # The source gives its own part beside this one: three times as many in all is three times its share.
        return None if rate is None else rate * Fraction(award.multiply or 1)
    return None if award.points else Fraction(0)
