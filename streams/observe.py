"""clickstream -> features of visitors in Redis: what they did lately, and who they may be (docs/features.md).

A batch of one partition goes through these steps, in this order:

(1) decode; what is no page view is counted and left: anybody may write pages, and a dead letter for each would be kept for ever;
(2) read the states of its visitors, and the offset that they stand at, in one round trip; what is in them already is skipped;
(3) fold the page views into the states, one by one (models/features/visits.py), each at its own time; of a visitor who floods, what is
    beyond `visitor_events_max` in a minute is counted and left: it costs no more than its decoding; into carts as well where an offer asks
    (models/features/carts.py), and note when they will have been left for long enough (streams/abandon.py);
(4) look up who the visitors are, by what they claim or the receipts of what they bought; of members who do not agree to it, only the link
    is kept;
(5) note whose the states are, so that an erasure finds them, and read the purchases of those of whom anything is to be decided;
(6) decide on offers (streams/decide.py);
(7) write the states in one function call, fenced on the offset of (2);
(8) acknowledge.

Delivery: exactly once in effect; the idempotency key is the offset. A refused write means that another worker has the partition.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from datetime import datetime
from time import time_ns
from typing import NamedTuple

import structlog
from confluent_kafka import Message
from msgspec import structs

from tillstream.kernels.instants import instant_ms, instant_of
from tillstream.kernels.offer_occasions import of_click
from tillstream.models.features.carts import CHANGES, Cart, carted, decode_cart, encode_cart
from tillstream.models.features.declared import features
from tillstream.models.features.goods import Goods, goods_of
from tillstream.models.features.visits import Visits, arrived, decode_visits, encode_visits, is_flooding, seen, unobserved
from tillstream.schemas.clickstream import ClickEvent, decode_click
from tillstream.schemas.events import Malformed
from tillstream.schemas.program_offers import OfferGoods
from tillstream.schemas.receipts import Identity
from tillstream.sinks.directory import Directory
from tillstream.sinks.features import CARTS, CARTS_S, VISITORS_S, VISITS, FeatureStore, Kept, Trace
from tillstream.streams.abandon import Abandon
from tillstream.streams.bought import Bought
from tillstream.streams.decide import Decide, Occasions
from tillstream.streams.offer_cases import Case
from tillstream.streams.persons import Person, Persons, identity_of
from tillstream.streams.stats import Stats

UNLINKED_S = 2 * 86_400
"""Of a visitor that is nobody's nothing is left by then: twelve half-lives."""

_log = structlog.get_logger(__name__)


class Arrived(NamedTuple):
    """A page view as it was read: when it happened, never later than its record, and when the record was made; milliseconds since 1970."""

    click: ClickEvent
    at_ms: int
    arrived_ms: int
    offset: int


class Seen(NamedTuple):
    """A page view with what is known behind it; `person` is None where nobody is linked."""

    arrived: Arrived
    visits: Visits
    person: Person | None = None

    def features(self, bought: Bought, goods: Goods, at: datetime) -> dict[str, float]:
        """The features at the page view; `at` is its time on the clock of the member or the program."""
        purchases = None if self.person is None or not self.person.profiled else bought.of(self.person.account_id)
        return features(self.visits, purchases, goods, at)


class Observe:
    """Observes batches of page views; `partitions` are those of `transactions`, `events_max` of one visitor count in a minute."""

    def __init__(
        self, store: FeatureStore, directory: Directory, partitions: int, events_max: int, stats: Stats, decide: Decide | None = None,
        abandon: Abandon | None = None,
    ) -> None:  # fmt: skip
        self.store = store
        self.directory = directory
        self.persons = Persons(directory.registry)
        self.partitions = partitions
        self.events_max = events_max
        self.stats = stats
        self.decide = decide
        self.abandon = abandon

    async def observe(self, partition: int, messages: Sequence[Message]) -> None:
        """Takes one batch through the steps of the module.

        Raises:
            Fenced: another worker has written this partition's states meanwhile.
        """
        read, last = decode_batch(messages), messages[-1].offset() or 0  # (1)
        offset, found = await self.store.load(VISITS, partition, visitors_of(read))  # (2)
        if last <= offset:
            return
        new = [one for one in read if one.offset > offset]
        folded = fold(new, found, self.events_max)  # (3)
        self.stats.count_clicks(observed=len(folded), flooding=len(new) - len(folded), malformed=len(messages) - len(read))
        carts = await self.carted(partition, [one.arrived for one in folded])
        known = await self.known(folded)  # (4)
        latest = {one.arrived.click.data.visitor_id: one for one in known}
        bought = Bought(self.store, self.partitions)
        asked = self.asked(known, bought)
        accounts = {one.case.account_id for one in asked.asked if one.scored} if asked is not None else set[str]()
        forgotten, _ = await asyncio.gather(self.store.note_visitors(traces_of(partition, latest, carts)), bought.load(accounts))  # (5)
        if self.decide is not None and asked is not None:
            # Before the states are written: what is judged again after a crash is judged by the same.
            await self.decide.take(asked)  # (6)
        states = {
            visitor: Kept(encode_visits(one.visits), UNLINKED_S if one.person is None else VISITORS_S)
            for visitor, one in latest.items()
            if VISITS.key(partition, visitor) not in forgotten
        }
        kept = {
            visitor: Kept(encode_cart(cart), CARTS_S) for visitor, cart in carts.items() if CARTS.key(partition, visitor) not in forgotten
        }
        await self.store.apply(VISITS, partition, offset, last, states, kept)  # (7)
        if self.abandon is not None:
            self.abandon.read(partition, messages[-1].timestamp()[1], time_ns() // 1_000_000)

    def asked(self, known: Sequence[Seen], bought: Bought) -> Occasions | None:
        """What is to be decided of; None: nothing ever is."""
        cases = [case for one in known if (case := case_of(one, bought)) is not None]
        return None if self.decide is None else self.decide.ask(cases, time_ns() // 1_000_000)

    async def carted(self, partition: int, arrived: Sequence[Arrived]) -> dict[str, Cart]:
        """The carts that page views have changed, by visitor; none where no offer asks for them."""
        waits = [] if self.decide is None or self.abandon is None else self.decide.waits()
        changes = [one for one in arrived if isinstance(one.click, CHANGES)] if waits else []
        if not changes or self.abandon is None:
            return {}
        found = await self.store.read(CARTS, dict.fromkeys(visitors_of(changes), partition))
        carts: dict[str, Cart | None] = {visitor: decode_cart(state) for visitor, state in found.items()}
        for one in changes:
            visitor = one.click.data.visitor_id
            carts[visitor] = carted(carts.get(visitor), one.click, one.at_ms)
        behind = {visitor: cart for visitor, cart in carts.items() if cart is not None}
        await self.abandon.carts.note(partition, {name: cart.at_ms if cart.goods else None for name, cart in behind.items()}, waits)
        return behind

    async def known(self, folded: Sequence[Seen]) -> list[Seen]:
        """The page views with persons."""
        accounts = await self.directory.claimed(
            {one.visits.link.sale_key for one in folded if one.visits.link is not None and one.visits.link.sale_key is not None}
        )
        persons = await self.persons.of([(identity_in(one.visits, accounts), one.arrived.click.time) for one in folded])
        nobodies = [one.visits.link.identity for one, person in zip(folded, persons, strict=True) if person is None and one.visits.link]
        erased = await self.persons.erased(identity for identity in nobodies if identity is not None)
        pairs = zip(folded, persons, strict=True)
        return [without_link(one, erased) if person is None else with_person(one, person) for one, person in pairs]


def traces_of(partition: int, latest: Mapping[str, Seen], carts: Collection[str]) -> list[Trace]:
    """Whose states a batch writes, and whose carts, which are no features: the last page view of each visitor says it."""
    linked = [(visitor, one, one.person) for visitor, one in latest.items() if one.person is not None]
    of_visits = [
        Trace(person.member_id, VISITS.key(partition, visitor), one.arrived.at_ms, person.profiled) for visitor, one, person in linked
    ]
    of_carts = [
        Trace(person.member_id, CARTS.key(partition, visitor), one.arrived.at_ms, featured=False)
        for visitor, one, person in linked
        if visitor in carts
    ]
    return of_visits + of_carts


def case_of(one: Seen, bought: Bought) -> Case | None:
    """A page view of a member, as offers look at it; None: nobody is linked. `bought` may be filled later."""
    if one.person is None:
        return None

    def featured(goods: OfferGoods, at: datetime) -> dict[str, float]:
        return one.features(bought, goods_of(goods), at)

    happened = of_click(one.arrived.click, instant_of(one.arrived.at_ms))
    return Case(happened, one.person.member_id, one.person.account_id, featured if one.person.profiled else None)


def decode_batch(messages: Sequence[Message]) -> list[Arrived]:
    """What decoded, in order; the rest is one line in the log, however much it is."""
    read: list[Arrived] = []
    malformed: list[tuple[int, Malformed]] = []
    for message in messages:
        offset, arrived_ms = message.offset() or 0, message.timestamp()[1]
        try:
            click = decode_click(message.value() or b"")
        except Malformed as problem:
            malformed.append((offset, problem))
        else:
            read.append(Arrived(click, min(instant_ms(click.time), arrived_ms), arrived_ms, offset))
    if malformed:
        first = {"offset": malformed[0][0], "error": str(malformed[0][1])[:200]}
        _log.warning("clicks_malformed", partition=messages[0].partition(), count=len(malformed), first=first)
    return read


def visitors_of(events: Iterable[Arrived]) -> list[str]:
    """Whose states a batch needs."""
    return list(dict.fromkeys(one.click.data.visitor_id for one in events))


def fold(events: Iterable[Arrived], found: dict[str, bytes], events_max: int) -> list[Seen]:
    """The page views, each with the state behind it; of a visitor `events_max` in a minute, the others are left out."""
    states: dict[str, Visits] = {visitor: decode_visits(state) for visitor, state in found.items()}
    folded = []
    for one in events:
        visitor = one.click.data.visitor_id
        before = states.get(visitor)
        if is_flooding(before, one.arrived_ms, events_max):
            continue
        states[visitor] = arrived(before, seen(before, one.click, one.at_ms), one.arrived_ms)
        folded.append(Seen(one, states[visitor]))
    return folded


def identity_in(visits: Visits, accounts: dict[str, str]) -> Identity | None:
    """The identity that a visitor's link leads to; `accounts`: of receipts, by natural key."""
    link = visits.link
    if link is None:
        return None
    if link.identity is not None:
        return link.identity
    account = accounts.get(link.sale_key or "")
    return None if account is None else identity_of(account)


def without_link(one: Seen, erased: Set[str]) -> Seen:
    """A page view of nobody; of a member who was erased nothing is kept, the name least of all."""
    link = one.visits.link
    if link is None or link.identity is None or link.identity.value not in erased:
        return one
    return one._replace(visits=structs.replace(unobserved(one.visits), link=None))


def with_person(one: Seen, person: Person) -> Seen:
    """A page view of somebody; of whoever does not agree to profiling nothing is kept."""
    if person.profiled:
        return one._replace(person=person)
    return one._replace(person=person, visits=unobserved(one.visits))
