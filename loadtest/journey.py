"""The Complete Journey's campaigns, as what could be known of each household on the eve of a campaign, and what came of it.

In: the parquet files that sources/complete_journey.py reads and cites (84.51°, 2015). Out: `Campaign`s in the order of their start, and of
each the features of every household that it was sent to (`Eve`), from purchases and redemptions strictly before its first day. What earlier
campaigns came to is known of those that have ended by then; of the others, only the redemptions so far.

Money is in minor units, recency in days, everything else a count or a share.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from tillstream.sources.complete_journey import MONEY, TIME_ZONE, _parquet

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]

NEVER_DAYS = 400.0
"""Recency of what did not happen in this year's data."""

DAY_S = 86_400


class Redemption(NamedTuple):
    """A household's use of a campaign's coupon."""

    household: int
    campaign: int
    day: date


class Campaign(NamedTuple):
    """A campaign: its households, and its coupons, each with the products that it is for."""

    id: int
    kind: str
    start: date
    end: date
    households: list[int]
    coupons: dict[int, set[int]]


class Journey:
    """The data, loaded once. `lines` are the columns of transactions, money in minor units; replace what is in them to ask what if."""

    def __init__(self) -> None:
        """Raises DatasetMissing."""
        products = _rows("products")
        self.category = {row["product_id"]: row["product_category"] for row in products}
        self.demographics = {row.pop("household_id"): row for row in _rows("demographics")}
        self.redemptions = sorted(
            (Redemption(row["household_id"], row["campaign_id"], row["redemption_date"].date()) for row in _rows("coupon_redemptions")),
            key=lambda one: one.day,
        )
        self.campaigns = _campaigns()
        self.lines = _lines()
        self.products, self.product_of = np.unique(self.lines["product_id"], return_inverse=True)
        self.shoppers, self.shopper_of = np.unique(self.lines["household_id"], return_inverse=True)
        self.place = {int(household): place for place, household in enumerate(self.shoppers)}
        # Baskets come whole and in the order of time.
        self.opens_basket = np.diff(self.lines["basket_id"], prepend=-1) != 0

    def eve(self, campaign: Campaign) -> "Eve":
        """What is known before the campaign's first day."""
        return Eve(self, campaign)

    def redeemers(self, campaign: Campaign) -> set[int]:
        """The households that used a coupon of the campaign: known when it has ended, and not before."""
        return {one.household for one in self.redemptions if one.campaign == campaign.id}


class Eve:
    """The last moment before a campaign; `features(household)` is all that a model may see."""

    def __init__(self, journey: Journey, campaign: Campaign) -> None:
        self.journey = journey
        self.campaign = campaign
        midnight = datetime(campaign.start.year, campaign.start.month, campaign.start.day, tzinfo=ZoneInfo(TIME_ZONE)).timestamp()
        # Nothing from here on is looked at: lines are in the order of time.
        self.until = int(np.searchsorted(journey.lines["transaction_timestamp"], midnight))
        self.age_days: Floats = (midnight - self.column("transaction_timestamp")) / DAY_S
        self.shopper = journey.shopper_of[: self.until]
        self.purchases = self._of_purchases()
        known = journey.redemptions[: bisect_left(journey.redemptions, campaign.start, key=lambda one: one.day)]
        self.redeemed: dict[int, list[Redemption]] = defaultdict(list)
        for one in known:
            self.redeemed[one.household].append(one)
        self.earlier = [one for one in journey.campaigns if one.start < campaign.start]
        self.kinds = {one.id: one.kind for one in self.earlier}
        self.received = Counter(household for one in self.earlier for household in one.households)
        self.ended = Counter(household for one in self.earlier if one.end < campaign.start for household in one.households)
        self.of_kind = Counter(household for one in self.earlier if one.kind == campaign.kind for household in one.households)

    def column(self, name: str) -> Numbers:
        """A column of the lines before."""
        return self.journey.lines[name][: self.until]

    def features(self, household: int) -> dict[str, float]:
        """By name; of a household that was never seen, what is known of the campaign, and zeros."""
        place = self.journey.place.get(household)
        found = {name: float(values[place]) if place is not None else 0.0 for name, values in self.purchases.items()}
        return found | self._of_redemptions(household) | self._of_campaign() | self._of_household(household)

    def _of_purchases(self) -> dict[str, Floats]:
        everything = np.ones(self.until, dtype=bool)
        wanted = set().union(*self.campaign.coupons.values())
        goods = np.isin(self.journey.products, np.fromiter(wanted, np.int64))[self.journey.product_of[: self.until]]
        categories = {self.journey.category.get(product) for product in wanted} - {None}
        related = np.array([self.journey.category.get(int(product)) in categories for product in self.journey.products])
        kin = related[self.journey.product_of[: self.until]]
        coupon = self.column("coupon_disc") > 0
        opens = self.journey.opens_basket[: self.until]
        found = {
            "visits": self.count(opens), "visits_30d": self.count(opens & (self.age_days <= 30)),
            "visits_90d": self.count(opens & (self.age_days <= 90)), "recency_days": self.recency(everything),
            "lines_90d": self.count(self.age_days <= 90), "coupon_lines": self.count(coupon), "coupon_recency_days": self.recency(coupon),
            "coupon_lines_90d": self.count(coupon & (self.age_days <= 90)), "match_lines": self.count(self.column("coupon_match_disc") > 0),
        }  # fmt: skip
        for name, mask in (("", everything), ("_30d", self.age_days <= 30), ("_90d", self.age_days <= 90)):
            found[f"spend{name}"] = self.total("sales_value", mask)
        price = found["spend"] + self.total("retail_disc", everything)
        found["discount_share"] = np.divide(self.total("retail_disc", everything), price, out=np.zeros_like(price), where=price > 0)
        for name, mask in (("goods", goods), ("kin", kin)):
            found |= {
                f"{name}_spend": self.total("sales_value", mask), f"{name}_lines": self.count(mask),
                f"{name}_lines_90d": self.count(mask & (self.age_days <= 90)), f"{name}_coupon_lines": self.count(mask & coupon),
                f"{name}_recency_days": self.recency(mask),
            }  # fmt: skip
        found["coupons_for_me"] = self._coupons_for_what_was_bought()
        return found

    def count(self, mask: NDArray[np.bool_]) -> Floats:
        """Lines in the mask, by shopper."""
        return np.bincount(self.shopper[mask], minlength=len(self.journey.shoppers)).astype(np.float64)

    def total(self, name: str, mask: NDArray[np.bool_]) -> Floats:
        """The sum of a column over the mask, by shopper."""
        return np.bincount(self.shopper[mask], self.column(name)[mask], minlength=len(self.journey.shoppers)).astype(np.float64)

    def recency(self, mask: NDArray[np.bool_]) -> Floats:
        """Days since the latest line in the mask, by shopper."""
        found = np.full(len(self.journey.shoppers), NEVER_DAYS)
        np.minimum.at(found, self.shopper[mask], self.age_days[mask])
        return found

    def _coupons_for_what_was_bought(self) -> Floats:
        """The campaign's coupons for a product that the shopper has bought before."""
        pairs = np.unique(self.shopper * len(self.journey.products) + self.journey.product_of[: self.until])
        shopper, product = np.divmod(pairs, len(self.journey.products))
        found = np.zeros(len(self.journey.shoppers))
        for products in self.campaign.coupons.values():
            mask = np.isin(self.journey.products, np.fromiter(products, np.int64))
            found[np.unique(shopper[mask[product]])] += 1
        return found

    def _of_redemptions(self, household: int) -> dict[str, float]:
        mine = self.redeemed.get(household, [])
        campaigns = {one.campaign for one in mine}
        return {
            "redemptions": float(len(mine)),
            "redeemed_campaigns": float(len(campaigns)),
            "redeemed_of_kind": float(sum(self.kinds[campaign] == self.campaign.kind for campaign in campaigns)),
            "redemption_recency_days": min(((self.campaign.start - one.day).days for one in mine), default=NEVER_DAYS),
            "redemptions_60d": float(len({one.campaign for one in mine if (self.campaign.start - one.day).days <= 60})),
            "received": float(self.received[household]),
            "received_of_kind": float(self.of_kind[household]),
            "received_in_vain": float(max(0, self.ended[household] - len(campaigns))),
        }

    def _of_campaign(self) -> dict[str, float]:
        campaign = self.campaign
        sizes = {"targeted": len(campaign.households), "coupons": len(campaign.coupons), "days": (campaign.end - campaign.start).days}
        return {f"kind={campaign.kind}": 1.0, **{name: float(size) for name, size in sizes.items()}}

    def _of_household(self, household: int) -> dict[str, float]:
        known: Mapping[str, Any] = self.journey.demographics.get(household, {})
        answers = {f"{name}={known[name]}": 1.0 for name in ("income", "household_comp") if known.get(name) is not None}
        return {"demographics": float(bool(known)), **answers}


def _rows(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _parquet(name).read().to_pylist()
    return rows


def _lines() -> dict[str, Numbers]:
    names = ("household_id", "basket_id", "product_id", "sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
    table = _parquet("transactions").read(columns=[*names, "transaction_timestamp"])
    columns: dict[str, Numbers] = {}
    for name in names:
        values = np.array(table[name])
        columns[name] = np.rint(values * 100).astype(np.int64) if name in MONEY else values
    columns["transaction_timestamp"] = np.array(table["transaction_timestamp"].cast("timestamp[s]").cast("int64"))
    return columns


def _campaigns() -> list[Campaign]:
    households: dict[int, list[int]] = defaultdict(list)
    coupons: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for row in _rows("campaigns"):
        households[row["campaign_id"]].append(row["household_id"])
    for row in _rows("coupons"):
        coupons[row["campaign_id"]][row["coupon_upc"]].add(row["product_id"])
    found = [
        Campaign(
            row["campaign_id"], row["campaign_type"], row["start_date"].date(), row["end_date"].date(),
            sorted(households[row["campaign_id"]]), dict(coupons[row["campaign_id"]]),
        )
        for row in _rows("campaign_descriptions")
    ]  # fmt: skip
    return sorted(found, key=lambda one: (one.start, one.id))
