"""transactions -> features of members' purchases in Redis (docs/features.md).

A batch of one partition goes through these steps, in this order:

(1) decode; only sales and returns of known accounts say what somebody buys (what can't be decoded, accrue refuses); of voids only offers
    want to know;
(2) read the states of their accounts, and the offset that they stand at, in one round trip; what is in them already is skipped;
(3) look up whose purchases they are: of members who do not agree to profiling nothing is kept;
(4) fold them into the states, one by one (models/features/purchases.py), each at its own time;
(5) write the states in one function call, fenced on the offset of (2); first of all note whose purchases are in another's account;
(6) acknowledge.

Delivery: exactly once in effect; the idempotency key is the offset. A refused write means that another worker has the partition.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from time import time_ns
from typing import NamedTuple

from confluent_kafka import Message

from tillstream.kernels.instants import instant_ms
from tillstream.kernels.offer_occasions import of_sale
from tillstream.models.features.declared import features
from tillstream.models.features.goods import goods_of
from tillstream.models.features.purchases import Purchases, bought, brought_back, decode_purchases, encode_purchases
from tillstream.schemas.events import ROUTED_BYTES_MAX, Malformed, ReturnEvent, SaleEvent, VoidEvent, decode
from tillstream.schemas.program_offers import OfferGoods
from tillstream.sinks.carts import CartStore
from tillstream.sinks.features import ACCOUNTS_S, PURCHASES, FeatureStore, Kept, Trace
from tillstream.sinks.registry import RegistryStore
from tillstream.streams.decide import Decide
from tillstream.streams.identify import ACCOUNT
from tillstream.streams.offer_cases import Case
from tillstream.streams.offer_returns import Returns
from tillstream.streams.persons import Person, Persons

ANONYMOUS = ACCOUNT + b"null"


class Arrived(NamedTuple):
    """A sale or return as it was read: when it happened, never later than its record, and when that was made; milliseconds since 1970."""

    event: SaleEvent | ReturnEvent
    account_id: str
    at_ms: int
    arrived_ms: int
    offset: int


class Regarded(NamedTuple):
    """A sale or return with all that is known behind it; `purchases` is None where nothing may be known."""

    arrived: Arrived
    person: Person | None
    purchases: Purchases | None


class Regard:
    """Regards batches of what accounts buy."""

    def __init__(
        self, store: FeatureStore, registry: RegistryStore, decide: Decide | None = None, carts: CartStore | None = None
    ) -> None:
        self.store = store
        self.carts = carts
        self.decide = decide
        self.returns = None if decide is None else Returns(decide.bought, decide.writer, decide.stats)
        self.persons = Persons(registry)

    async def regard(self, partition: int, messages: Sequence[Message]) -> None:
        """Takes one batch through the steps of the module.

        Raises:
            Fenced: another worker has written this partition's states meanwhile.
        """
        (arrived, voids), last = decode_batch(messages), messages[-1].offset() or 0  # (1)
        offset, found = await self.store.load(PURCHASES, partition, list(dict.fromkeys(one.account_id for one in arrived)))  # (2)
        if last <= offset:
            return
        new = [one for one in arrived if one.offset > offset]
        persons = await self.persons.of([(one.event.data.member, one.event.data.issued_at) for one in new])  # (3)
        regarded = fold(new, persons, found)  # (4)
        if self.carts is not None and self.decide is not None and self.decide.waits():
            await self.carts.note_receipts(bought_by(regarded))
        if self.decide is not None:
            await self.decide.decide([case for one in regarded if (case := case_of(one)) is not None], time_ns() // 1_000_000)
        if self.returns is not None:
            returns = [one.event for one in new if isinstance(one.event, ReturnEvent)]
            await self.returns.take([*returns, *(event for at, event in voids if at > offset)])
        await self.keep(partition, offset, last, regarded)  # (5)

    async def keep(self, partition: int, before: int, after: int, regarded: Sequence[Regarded]) -> None:
        """Writes the states behind the last event of each account."""
        latest = {one.arrived.account_id: one.purchases for one in regarded if one.purchases is not None}
        traces = {
            (one.person.member_id, one.arrived.account_id): one.arrived.at_ms
            for one in regarded
            if one.person is not None and one.purchases is not None and one.arrived.account_id != one.person.member_id
        }
        forgotten = await self.store.note_accounts(
            Trace(member, PURCHASES.key(partition, account), at_ms) for (member, account), at_ms in traces.items()
        )
        states = {
            account: Kept(encode_purchases(state), ACCOUNTS_S)
            for account, state in latest.items()
            if PURCHASES.key(partition, account) not in forgotten
        }
        await self.store.apply(PURCHASES, partition, before, after, states)


def bought_by(regarded: Iterable[Regarded]) -> list[tuple[str, int]]:
    """Who has bought, when: what ends the waiting for their carts."""
    return [
        (one.person.member_id, one.arrived.at_ms) for one in regarded if one.person is not None and isinstance(one.arrived.event, SaleEvent)
    ]


def case_of(one: Regarded) -> Case | None:
    """A sale to a member, as offers look at it; None: it is a return, or nobody's."""
    event, purchases = one.arrived.event, one.purchases
    if one.person is None or not isinstance(event, SaleEvent):
        return None

    def featured(goods: OfferGoods, at: datetime) -> dict[str, float]:
        return features(None, purchases, goods_of(goods), at)

    return Case(of_sale(event), one.person.member_id, one.person.account_id, featured if one.person.profiled else None)


def decode_batch(messages: Iterable[Message]) -> tuple[list[Arrived], list[tuple[int, VoidEvent]]]:
    """The sales and returns of accounts, and voids with their offsets, in order."""
    arrived, voids = list[Arrived](), list[tuple[int, VoidEvent]]()
    for message in messages:
        raw = message.value() or b""
        if raw.startswith(ANONYMOUS):
            continue
        try:
            event = decode(raw, ROUTED_BYTES_MAX)
        except Malformed:
            continue
        if isinstance(event, VoidEvent):
            voids.append((message.offset() or 0, event))
        elif isinstance(event, SaleEvent | ReturnEvent) and isinstance(event.accountid, str):
            arrived_ms = message.timestamp()[1]
            at_ms = min(instant_ms(event.data.issued_at), arrived_ms)
            arrived.append(Arrived(event, event.accountid, at_ms, arrived_ms, message.offset() or 0))
    return arrived, voids


def fold(arrived: Sequence[Arrived], persons: Sequence[Person | None], found: dict[str, bytes]) -> list[Regarded]:
    """The events, each with the state behind it; a return needs nobody's consent anew, since it only takes off what is kept."""
    states: dict[str, Purchases] = {account: decode_purchases(state) for account, state in found.items()}
    regarded = []
    for one, person in zip(arrived, persons, strict=True):
        state = states.get(one.account_id)
        if isinstance(one.event, ReturnEvent):
            state = brought_back(state, one.event, one.at_ms)
        elif person is not None and person.profiled:
            state = bought(state, one.event, one.at_ms)
        else:
            regarded.append(Regarded(one, person, None))
            continue
        if state is not None:
            states[one.account_id] = state
        regarded.append(Regarded(one, person, state))
    return regarded
