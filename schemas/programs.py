"""A program: a versioned set of rules, units and groups in one TOML file (DESIGN.md §6).

Amounts are minor units of the program's currency. Decimals are exact: TOML's are read as `Decimal`, never as floats.
"""

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta, Struct

from tillstream.schemas.fields import Currency, Identifier, Natural
from tillstream.schemas.program_offers import Offer, OfferChoice
from tillstream.schemas.program_parts import Budget, ClockTime, Goods, MonthDay, Patterns, Percent, Period, Positive, Trigger, Weekday, Who


class Head(Struct, frozen=True, forbid_unknown_fields=True):
    """What the program is called, its currency, and the time zone in which its days begin."""

    id: Identifier
    currency: Currency
    time_zone: str
    effective_from: date | None = None


class Expires(Struct, frozen=True, forbid_unknown_fields=True):
    """When points expire, counted from the local date of `issued_at`: exactly one of the first three."""

    after_days: Positive | None = None
    after_months: Positive | None = None
    fixed_dates: Annotated[list[MonthDay], Meta(min_length=1)] | None = None
    at: Literal["day", "month_end", "quarter_end", "year_end"] = "day"


class Worth(Struct, frozen=True, forbid_unknown_fields=True):
    """What points are worth as a tender: so many pay so many minor units."""

    points: Positive
    amount: Positive


class Unit(Struct, frozen=True, forbid_unknown_fields=True):
    """What is counted: points, stamps, ..."""

    expires: Expires | None = None
    negative_balance: Literal["debt", "clamp"] = "debt"
    hold_days: Natural = 0
    spending: "Spending | None" = None


class Group(Struct, frozen=True, forbid_unknown_fields=True):
    """How the rules of one group share a receipt."""

    stacking: Literal["all", "best", "first"] = "all"


class When(Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Conditions on the receipt as a whole, at `issued_at` in the program's time zone."""

    weekday: Annotated[list[Weekday], Meta(min_length=1)] | None = None
    hours: tuple[ClockTime, ClockTime] | None = None
    from_: date | None = None
    to: date | None = None
    store: Patterns | None = None
    min_amount: Natural | None = None
    min_positions: Natural | None = None


class Lines(Goods, frozen=True, forbid_unknown_fields=True):
    """The eligible lines, and what they must come to in all."""

    min_amount: Natural | None = None
    min_quantity_milli: Natural | None = None


class Spending(Struct, frozen=True, forbid_unknown_fields=True):
    """What a unit may buy: which goods, and which part of a receipt at least and at most, in per cent of all lines' amount."""

    worth: Worth
    lines: Goods = Goods()
    exclude: Goods = Goods()
    min_percent: Percent = 0
    max_percent: Percent = 100


class Bought(Struct, frozen=True, forbid_unknown_fields=True):
    """An earlier receipt, at most `within_days` local dates ago, has a matching line that did not wholly come back."""

    within_days: Positive
    sku: str | Patterns | None = None
    category: str | Patterns | None = None
    brand: str | Patterns | None = None
    kind: str | Patterns | None = None


class Window(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds for a count or a sum over the last `days` or `months`, or over the calendar period `per` that the event falls into."""

    min: Natural | None = None
    max: Natural | None = None
    days: Positive | None = None
    months: Positive | None = None
    per: Period | None = None


class Streak(Struct, frozen=True, forbid_unknown_fields=True):
    """At least `visits` receipts in each of the last `weeks` ISO weeks, the event's own included."""

    weeks: Annotated[int, Meta(ge=1, le=520)]
    visits: Positive = 1


class MemberTerms(Who, frozen=True, forbid_unknown_fields=True):
    """Conditions on the member as of the event: what came before it, in the order of (time, natural key)."""

    first_purchase: bool | None = None
    bought: Bought | None = None
    visits: Window | None = None
    spend: Window | None = None
    streak: Streak | None = None


class Exchange(Struct, frozen=True, forbid_unknown_fields=True):
    """What a rule `on = "balance"` takes whenever there is enough of it: "buy 9, the 10th is free"."""

    unit: Identifier
    points: Positive


class Target(Struct, frozen=True, forbid_unknown_fields=True):
    """What a rule `on = "period_end"` looks at: the period's sum over the rule's eligible lines, judged `offset_days` after its end."""

    per: Literal["week", "month", "quarter", "year"]
    count: Literal["amount", "quantity_milli", "visits"] = "amount"
    offset_days: Annotated[int, Meta(ge=0, le=366)] = 0


class Award(Struct, frozen=True, forbid_unknown_fields=True):
    """How many points: one of the six forms of DESIGN.md §5, told apart by their keys."""

    points: Decimal | None = None
    per_amount: Positive | None = None
    per_item: Positive | None = None
    per_line: Positive | None = None
    fixed: Natural | None = None
    steps: Annotated[list[tuple[Natural, Natural]], Meta(min_length=1)] | None = None
    multiply: Decimal | None = None
    of: Identifier | None = None


class MemberCap(Struct, frozen=True, forbid_unknown_fields=True):
    """At most so many points of a rule per account and period; `campaign`: in all."""

    points: Natural
    per: Literal["day", "week", "month", "quarter", "year", "campaign"]


class Cap(Struct, frozen=True, forbid_unknown_fields=True):
    """What cuts an award. `on_return`: whether what a return takes back makes room again."""

    per_receipt: Natural | None = None
    per_member: MemberCap | None = None
    budget: Budget | None = None
    on_return: Literal["give_back", "keep"] = "give_back"


class Rule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way of earning."""

    id: Identifier
    award: Award
    unit: Identifier = "points"
    when: When = When()
    lines: Lines = Lines()
    exclude: Goods = Goods()
    rounding: Literal["floor", "half_up", "ceil"] = "floor"
    priority: int = 100
    group: Identifier | None = None
    exclusive: bool = False
    cap: Cap = Cap()
    earn_on_points_tender: bool = False
    on: Trigger = "receipt"
    member: MemberTerms | None = None
    activity: dict[str, list[str | int | bool]] | None = None
    once: Literal["day", "week", "month", "quarter", "year", "ever"] | None = None
    on_return: Literal["proportional", "requalify"] = "proportional"
    hold_days: Natural | None = None
    exchange: Exchange | None = None
    target: Target | None = None


class TierWindow(Struct, frozen=True, forbid_unknown_fields=True):
    """What qualifies: `count` over the last `months` (rolling) or over the calendar period of `months` that began with the year."""

    months: Annotated[int, Meta(ge=1, le=120)]
    count: Literal["spend", "points", "visits"]
    kind: Literal["rolling", "calendar"] = "rolling"
    unit: Identifier = "points"


class Level(Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """A tier: from which count on, and where to at the end of a window that no longer reaches it."""

    id: Identifier
    from_: Natural
    downgrade: Literal["one_down", "to_level", "never"] = "to_level"


class Tiers(Struct, frozen=True, forbid_unknown_fields=True):
    """The levels of membership, lowest first."""

    window: TierWindow
    levels: Annotated[list[Level], Meta(min_length=1)]


class Program(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    program: Head
    units: dict[Identifier, Unit]
    rules: list[Rule]
    groups: dict[Identifier, Group] = {}
    tiers: Tiers | None = None
    offers: list[Offer] = []
    offer_choice: OfferChoice = OfferChoice()


def ordered(rules: list[Rule]) -> list[Rule]:
    """Rules in the order in which they are judged: (`priority`, position in the file)."""
    return sorted(rules, key=lambda rule: rule.priority)


def award_form(award: Award) -> str | None:
    """The form that the keys of `award` spell, or None where they spell none."""
    given = frozenset(key for key in award.__struct_fields__ if getattr(award, key) is not None)
    return AWARD_FORMS.get(given)


AWARD_FORMS = {
    frozenset({"points", "per_amount"}): "per_amount",
    frozenset({"points", "per_item"}): "per_item",
    frozenset({"points", "per_line"}): "per_line",
    frozenset({"fixed"}): "fixed",
    frozenset({"steps"}): "steps",
    frozenset({"multiply", "of"}): "multiply",
}
