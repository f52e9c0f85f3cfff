"""Carts that were left -> cases for the decision on offers (docs/adr/0032). Asked by a timer, with the time as an argument.

A look goes through these steps, in this order:

(1) find the carts that have waited as long as some offer asks (sinks/carts.py);
(2) read them, with what is known of their visitors; one that has changed meanwhile, or is empty, is passed over;
(3) look up whose they are, and when these members bought last: who has bought since is told nothing;
(4) decide (streams/decide.py), at the instant at which the wait was over;
(5) note that these carts were looked at.

Delivery: at least once. The event that leads to a decision is the cart's latest change and the wait, so a cart that is looked at again,
after a crash or by the next worker, finds its own decision. A partition is not looked at while page views of more than a minute ago are
still being read: the purchase may be among them.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from tillstream.kernels.instants import instant_of
from tillstream.kernels.offer_occasions import ABANDONED, Article, Happened
from tillstream.models.features.carts import Cart, decode_cart
from tillstream.models.features.declared import features
from tillstream.models.features.goods import goods_of
from tillstream.models.features.purchases import Purchases
from tillstream.models.features.visits import Visits, decode_visits
from tillstream.schemas.program_offers import OfferGoods
from tillstream.sinks.carts import CartStore, Due
from tillstream.sinks.features import CARTS, VISITS, FeatureStore
from tillstream.streams.bought import Bought
from tillstream.streams.decide import Decide
from tillstream.streams.offer_cases import Case
from tillstream.streams.persons import Person, Persons

LOOK_EVERY_S = 1.0

BEHIND_MS = 60_000
"""Page views that are older than this when they are read are a backlog."""

SETTLE_MS = 5_000
"""After a batch of a backlog, and after the assignment of a partition, the next batch may still bring a purchase."""

EVENT_ID_MAX = 230
"""Of the change's id; with the wait behind it the whole is an identifier. A longer one gives way to its hash."""


class Left(NamedTuple):
    """A cart that was left, what is known of the visitor, and who that is."""

    due: Due
    cart: Cart
    visits: Visits
    person: Person


class Abandon:
    """Looks for carts that were left; `partitions` are those of `transactions`."""

    def __init__(self, store: FeatureStore, carts: CartStore, persons: Persons, partitions: int, decide: Decide) -> None:
        self.store = store
        self.carts = carts
        self.persons = persons
        self.partitions = partitions
        self.decide = decide
        self.not_before: dict[int, int] = {}

    def hold(self, partition: int, now_ms: int) -> None:
        """A partition is to be read on first: it was assigned just now, or is behind."""
        self.not_before[partition] = now_ms + SETTLE_MS

    def read(self, partition: int, arrived_ms: int, now_ms: int) -> None:
        """A batch of a partition was observed, whose last record was made at `arrived_ms`."""
        if now_ms - arrived_ms > BEHIND_MS:
            self.hold(partition, now_ms)

    async def look(self, partitions: Sequence[int], now_ms: int) -> None:
        """Takes what is due in some partitions through the steps of the module; `now_ms` is the time, milliseconds since 1970."""
        settled = [partition for partition in partitions if self.not_before.get(partition, 0) <= now_ms]
        due = await self.carts.due(settled, now_ms) if settled and self.decide.waits() else []  # (1)
        if not due:
            return
        left = await self.left(due)  # (2)
        latest = await self.carts.latest_receipts(one.person.member_id for one in left)  # (3)
        bought = Bought(self.store, self.partitions)
        await bought.load({one.person.account_id for one in left if one.person.profiled})
        cases: list[Case] = []
        for one in left:
            case = case_of(one, bought.of(one.person.account_id))
            if latest.get(one.person.member_id, -1) < one.cart.at_ms:
                cases.append(case)
            else:
                self.decide.refuse(case, "bought_meanwhile")
        await self.decide.decide(cases, now_ms)  # (4)
        await self.carts.remove(due)  # (5)

    async def left(self, due: Sequence[Due]) -> list[Left]:
        """The carts that have waited, of visitors who are members."""
        places = {one.visitor: one.partition for one in due}
        carts = {name: decode_cart(raw) for name, raw in (await self.store.read(CARTS, places)).items()}
        visits = {name: decode_visits(raw) for name, raw in (await self.store.read(VISITS, places)).items()}
        waited = [
            (one, carts[one.visitor], visits[one.visitor])
            for one in due
            if one.visitor in carts and one.visitor in visits and has_waited(carts[one.visitor], one)
        ]
        named = [(visit.link.identity if visit.link is not None else None, instant_of(one.at_ms)) for one, _, visit in waited]
        persons = await self.persons.of(named)
        return [
            Left(one, cart, visit, person)
            for (one, cart, visit), (identity, _), person in zip(waited, named, persons, strict=True)
            if person is not None and cart.claim in {None, identity}
        ]


def has_waited(cart: Cart, due: Due) -> bool:
    """Whether there is something in a cart, and it has not changed since the look was noted."""
    return bool(cart.goods) and cart.at_ms + due.minutes * 60_000 == due.at_ms


def case_of(left: Left, purchases: Purchases | None) -> Case:
    """A cart that was left, as offers look at it."""
    due, cart, visits, person = left
    articles = [Article(sku, category or None) for sku, (category, _) in cart.goods.items()]
    name = cart.event_id if len(cart.event_id) <= EVENT_ID_MAX else f"{cart.recent[-1]:016x}"
    happened = Happened(
        cart.source, f"{name}/abandoned/{due.minutes}", "cart.abandoned", ABANDONED, instant_of(due.at_ms), articles,
        visitor_id=due.visitor, session_id=cart.session_id, waited_minutes=due.minutes,
    )  # fmt: skip

    def featured(goods: OfferGoods, at: datetime) -> dict[str, float]:
        return features(visits, purchases, goods_of(goods), at)

    return Case(happened, person.member_id, person.account_id, featured if person.profiled else None)
