"""Mistakes in the offers of a program: occasions that can't come, goods that are none, limits that nobody counts so far."""

from collections.abc import Iterator

from tillstream.schemas.mistakes import Mistake, nearest
from tillstream.schemas.program_offers import BASIS_POINTS, Occasion, Offer, OfferGoods, OfferWorth, Span
from tillstream.schemas.program_terms import pattern_mistakes, who_mistakes
from tillstream.schemas.programs import Program

KEPT_DAYS_MAX = 92
"""A quarter: how long a member's decisions are kept, so how far caps, cool-downs, and answers can look."""

COUNT_MAX = 50
"""Events of one visitor that an occasion can count: they are kept one by one."""

MINUTES_MAX = 1_440
"""A day: what was looked at longer ago is no occasion now."""

EVERY_KEY = ("event", "minutes", "min_amount")
KEYS_OF = {"clicks": ("event", "minutes"), "receipt": ("min_amount",), "cart_abandoned": ("minutes",)}
"""Which keys of a trigger say something, by what it is on."""

BELONGS = {"event": "clicks", "minutes": "clicks", "min_amount": "receipt"}

GOODS_KEYS = ("sku", "category")


def offer_mistakes(program: Program) -> Iterator[Mistake]:
    """What is wrong with `[[offers]]`."""
    seen: dict[str, int] = {}
    for index, offer in enumerate(program.offers):
        path = f"$.offers[{index}]"
        if offer.id in seen:
            yield Mistake(f"{path}.id", f"{offer.id!r} is taken by $.offers[{seen[offer.id]}]", "offer ids are unique")
        seen.setdefault(offer.id, index)
        yield from _goods(offer.goods, f"{path}.goods", needed=True)
        yield from who_mistakes(program, offer.audience, f"{path}.audience")
        yield from _occasion(offer.trigger, f"{path}.trigger")
        yield from _worth(program, offer.worth, f"{path}.worth")
        yield from _times(offer, path)
        yield from _limits(offer, path)
        yield from _score(offer, path)
    yield from choice_mistakes(program)


def choice_mistakes(program: Program) -> Iterator[Mistake]:
    """A draw between offers takes two with a score by one channel, and scores of the same outcome."""
    if program.offer_choice.policy != "bandit":
        return
    by_channel: dict[str, list[tuple[int, Offer]]] = {}
    for index, offer in enumerate(program.offers):
        if offer.model is not None:
            by_channel.setdefault(offer.channel, []).append((index, offer))
    if all(len(offers) < 2 for offers in by_channel.values()):
        hint = "give two offers of one channel a `model`, or leave the policy out"
        yield Mistake("$.offer_choice.policy", "there is nothing to draw from: no channel has two offers with a model", hint)
    for (_, first), *others in by_channel.values():
        for index, offer in others:
            if offer.answer.outcome != first.answer.outcome:
                message = f"{offer.answer.outcome!r} can't be compared with {first.answer.outcome!r} of {first.id!r}"
                hint = f"offers that are drawn from by one channel, here {offer.channel!r}, count the same outcome"
                yield Mistake(f"$.offers[{index}].answer.outcome", message, hint)


def _goods(goods: OfferGoods, path: str, *, needed: bool) -> Iterator[Mistake]:
    if needed and goods.sku is None and goods.category is None:
        yield Mistake(path, "names no goods", f"give one of {', '.join(GOODS_KEYS)}")
    for key in GOODS_KEYS:
        yield from pattern_mistakes(getattr(goods, key), f"{path}.{key}")


def _occasion(occasion: Occasion, path: str) -> Iterator[Mistake]:
    yield from _goods(occasion, path, needed=False)
    for key in EVERY_KEY:
        if getattr(occasion, key) is not None and key not in KEYS_OF[occasion.on]:
            yield Mistake(f"{path}.{key}", f'belongs to offers with on = "{BELONGS[key]}"')
    if occasion.first_purchase and occasion.on != "receipt":
        yield Mistake(f"{path}.first_purchase", 'belongs to offers with on = "receipt"')
    if occasion.count != 1 and occasion.on != "clicks":
        yield Mistake(f"{path}.count", 'belongs to offers with on = "clicks"')
    if (occasion.minutes or 0) > MINUTES_MAX:
        yield Mistake(f"{path}.minutes", f"is more than {MINUTES_MAX}, a day")
    if occasion.on == "clicks":
        yield from _counting(occasion, path)
    elif occasion.on == "cart_abandoned":
        if occasion.minutes is None:
            yield Mistake(f"{path}.minutes", "is missing: after how many minutes is a cart abandoned?", "for example 60")
    elif occasion.first_purchase and occasion.sku is None and occasion.category is None:
        yield Mistake(f"{path}.first_purchase", "of which goods?", f"give one of {', '.join(GOODS_KEYS)}")


def _counting(occasion: Occasion, path: str) -> Iterator[Mistake]:
    if occasion.event is None:
        yield Mistake(f"{path}.event", "is missing: an offer on clicks says which", 'for example ["view_item"]')
    if occasion.count > 1 and occasion.minutes is None:
        yield Mistake(f"{path}.minutes", f"is missing: {occasion.count} events within how many minutes?")
    if occasion.count == 1 and occasion.minutes is not None:
        yield Mistake(f"{path}.minutes", "asks nothing of a single event", "give `count`, or leave it out")
    if occasion.count > COUNT_MAX:
        yield Mistake(f"{path}.count", f"is more than {COUNT_MAX}")


def _worth(program: Program, worth: OfferWorth, path: str) -> Iterator[Mistake]:
    if (worth.points, worth.amount_off, worth.percent_off).count(None) != 2:
        yield Mistake(path, "needs exactly one of points, amount_off, percent_off")
    if worth.points is not None and worth.unit not in program.units:
        hint = nearest(worth.unit, program.units, f"add [units.{worth.unit}]")
        yield Mistake(f"{path}.unit", f"unit {worth.unit!r} is not declared", hint)
    percent = worth.percent_off
    if percent is None:
        return
    if not percent.is_finite() or not 0 < percent <= 100:
        yield Mistake(f"{path}.percent_off", "must be above 0 and at most 100")
    elif percent * BASIS_POINTS != int(percent * BASIS_POINTS):
        yield Mistake(f"{path}.percent_off", "has more than two decimals")


def _times(offer: Offer, path: str) -> Iterator[Mistake]:
    if offer.from_ and offer.to and offer.from_ > offer.to:
        yield Mistake(f"{path}.to", f"{offer.to} comes before `from`, {offer.from_}")
    yield from _span(offer.valid_for, f"{path}.valid_for")
    if offer.cool_down is not None:
        yield from _span(offer.cool_down, f"{path}.cool_down")
    if offer.answer.days > KEPT_DAYS_MAX:
        yield Mistake(f"{path}.answer.days", f"is more than {KEPT_DAYS_MAX}: decisions are not kept longer")


def _span(span: Span, path: str) -> Iterator[Mistake]:
    if (span.minutes, span.hours, span.days).count(None) != 2:
        yield Mistake(path, "needs exactly one of minutes, hours, days")
    elif max((span.minutes or 0) // 1_440, (span.hours or 0) // 24, span.days or 0) > KEPT_DAYS_MAX:
        yield Mistake(path, f"is more than {KEPT_DAYS_MAX} days: decisions are not kept longer")


def _limits(offer: Offer, path: str) -> Iterator[Mistake]:
    for key in ("per_member", "per_channel"):
        limit = getattr(offer.cap, key)
        if limit is not None and limit.days > KEPT_DAYS_MAX:
            yield Mistake(f"{path}.cap.{key}.days", f"is more than {KEPT_DAYS_MAX}: decisions are not kept longer")
    if offer.budget == 0:
        yield Mistake(f"{path}.budget", "0 lets nobody have it", "leave the offer out, or end it by `to`")
    if offer.control == 100:
        yield Mistake(f"{path}.control", "100 puts everybody into the control group: nobody would get it")


def _score(offer: Offer, path: str) -> Iterator[Mistake]:
    score = offer.min_score
    if score is None:
        return
    if offer.model is None:
        yield Mistake(f"{path}.min_score", "who gives the score?", "name a `model`")
    if not score.is_finite() or not 0 <= score <= 1:
        yield Mistake(f"{path}.min_score", "must be a probability, from 0 to 1")
