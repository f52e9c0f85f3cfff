"""Awards, amounts and conditions of a program in words, for people: explanations, differences, advice."""

from collections.abc import Mapping
from typing import Any

from tillstream.schemas.program_offers import OfferWorth
from tillstream.schemas.programs import Rule, award_form


def money(minor: int) -> str:
    """Minor units with two decimals.

    >>> money(1599)
    '15.99'
    """
    return f"{minor // 100}.{minor % 100:02}"


def award_words(rule: Rule) -> str:
    """What a rule gives.

    >>> from decimal import Decimal
    >>> from tillstream.schemas.programs import Award
    >>> award_words(Rule(id="base", award=Award(points=Decimal(2), per_amount=100)))
    '2 points per 1.00'
    """
    award, unit = rule.award, rule.unit
    form = award_form(award)
    if form == "per_amount":
        return f"{award.points} {unit} per {money(award.per_amount or 0)}"
    if form == "per_item":
        return f"{award.points} {unit} for every {award.per_item} of an article"
    if form == "per_line":
        return f"{award.points} {unit} for every {award.per_line} lines"
    if form == "fixed":
        return f"{award.fixed} {unit} at once"
    if form == "steps":
        return f"{unit} by steps: " + ", ".join(f"{points} from {money(least)}" for least, points in award.steps or [])
    return f"{award.multiply} times what {award.of} gave"


def worth_words(worth: OfferWorth) -> str:
    """What an offer gives.

    >>> worth_words(OfferWorth(points=200)), worth_words(OfferWorth(amount_off=500))
    ('200 points', '5.00 off')
    """
    if worth.points is not None:
        return f"{worth.points} {worth.unit}"
    return f"{money(worth.amount_off)} off" if worth.amount_off is not None else f"{worth.percent_off}% off"


def value_words(value: Any) -> str:
    """Any value of a program file.

    >>> from datetime import date
    >>> value_words(["sat", "sun"]), value_words({"points": 9, "per": "day"}), value_words(date(2026, 3, 1))
    ('sat, sun', 'points 9, per day', '2026-03-01')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {value_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(f"({value_words(item)})" if isinstance(item, list | tuple | Mapping) else value_words(item) for item in value)
    return str(value)
