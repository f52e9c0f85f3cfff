"""Offers of a program file, `[[offers]]`: what may be proposed to a member, on which occasion, how often, and to whom not.

Amounts are minor units of the program's currency. What is decided by these terms, kernels/offering.py says.
"""

from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta, Struct

from tillstream.schemas.fields import Identifier, Label, Natural
from tillstream.schemas.program_parts import Budget, Patterns, Percent, Positive, Who

ClickName = Literal[
    "page_view", "view_item", "view_item_list", "search", "add_to_cart", "remove_from_cart", "begin_checkout", "purchase"
]
"""GA4's names, as in schemas/clickstream.py."""

Purpose = Literal["marketing", "personalised", "profiling"]
"""What a member may agree to (`member.consent_changed`)."""

PURPOSES: tuple[Purpose, ...] = ("marketing", "personalised")
"""What an offer asks for where it does not say."""

PROFILING: Purpose = "profiling"
"""What a model that scores a member asks for."""

BASIS_POINTS = 100
"""Hundredths of a per cent in one per cent."""


class Span(Struct, frozen=True, forbid_unknown_fields=True):
    """A length of time: exactly one of the three."""

    minutes: Positive | None = None
    hours: Positive | None = None
    days: Positive | None = None

    @property
    def length(self) -> timedelta:
        """As a difference of instants; a day is 24 hours."""
        return timedelta(minutes=self.minutes or 0, hours=self.hours or 0, days=self.days or 0)


class OfferGoods(Struct, frozen=True, forbid_unknown_fields=True):
    """Which goods: every key must match, by any of its values."""

    sku: Patterns | None = None
    category: Patterns | None = None


class Occasion(OfferGoods, frozen=True, forbid_unknown_fields=True):
    """What leads to an offer. On `clicks`: `count` events of a name, with such goods, within `minutes`, the last one now.

    On `receipt`: such goods were bought, for `min_amount` at least; `first_purchase`: for the first time, as far as offers have looked.

    On `cart_abandoned`: a cart with such goods, in which nothing has changed, and after which nothing was bought, for `minutes`.
    """

    on: Literal["clicks", "receipt", "cart_abandoned"] = "clicks"
    event: Annotated[list[ClickName], Meta(min_length=1)] | None = None
    count: Positive = 1
    minutes: Positive | None = None
    min_amount: Natural | None = None
    first_purchase: bool = False


class OfferWorth(Struct, frozen=True, forbid_unknown_fields=True):
    """What an offer gives: exactly one of `points` (of `unit`), `amount_off` (minor units), `percent_off` (two decimals at most)."""

    points: Positive | None = None
    unit: Identifier = "points"
    amount_off: Positive | None = None
    percent_off: Decimal | None = None


class Frequency(Struct, frozen=True, forbid_unknown_fields=True):
    """At most `max` in `days` calendar days of the member's time zone, today included."""

    max: Positive
    days: Positive


class OfferCap(Struct, frozen=True, forbid_unknown_fields=True):
    """How often: this offer to one member; all offers together to one member through this one's channel."""

    per_member: Frequency | None = None
    per_channel: Frequency | None = None


class AnswerTerms(Struct, frozen=True, forbid_unknown_fields=True):
    """Which outcome makes an offer a success, and within how many days of 24 hours after the decision."""

    outcome: Literal["clicked", "redeemed", "bought"] = "bought"
    days: Positive = 14


ChoicePolicy = Literal["best", "bandit"]
"""Which of several offers goes first: the one with the best score, or one that is drawn by scores (models/bandit.py)."""


class OfferChoice(Struct, frozen=True, forbid_unknown_fields=True):
    """How a program's offers are chosen from, where several fit one event by the same channel."""

    policy: ChoicePolicy = "best"


class Offer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"from_": "from"}):
    """Something that may be proposed to a member."""

    id: Identifier
    title: Annotated[Label, Meta(min_length=1)]
    goods: OfferGoods
    trigger: Occasion
    worth: OfferWorth
    channel: Identifier = "page"
    audience: Who = Who()
    purpose: Annotated[list[Purpose], Meta(min_length=1)] | None = None
    from_: date | None = None
    to: date | None = None
    budget: Budget | None = None
    cap: OfferCap = OfferCap()
    cool_down: Span | None = None
    model: Identifier | None = None
    min_score: Decimal | None = None
    explore: Percent = 5
    control: Percent = 0
    priority: int = 100
    valid_for: Span = Span(days=1)
    answer: AnswerTerms = AnswerTerms()


def purposes(offer: Offer) -> list[Purpose]:
    """What a member must have agreed to, in the order in which it is looked up; a model asks for profiling as well."""
    return [*dict.fromkeys([*(offer.purpose or PURPOSES), *([PROFILING] if offer.model is not None else [])])]
