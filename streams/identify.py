"""pos.receipts -> transactions: validate, find the account, key by it. What can't be taken goes to `deadletter` (DESIGN.md §2).

A batch goes through these steps, in this order:

(1) decode; bad events become dead letters; personal values give way to their keyed hashes (kernels/sealing.py);
(2) look up to which account each identity belonged when the event occurred (kernels/registry.py), two round trips;
(3) claim sales, and what spends points, for their accounts, and find the accounts of what returns and voids name: every delivery of an
    event goes where its first one went, whatever has become of the card since, so that the account's partition sees each repeat (G2);
(4) a return whose sale is not known is parked, in Redis and on `parked`; a sale that somebody is parked for brings them along; what is
    older than Redis remembers goes to `recall`, where history is asked (recall.py);
(5) append everything; then forget what was parked; reply to the gateways whose events end here (replies.py); then acknowledge.

Delivery: at least once; `accrue` tells repeats.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import msgspec
from confluent_kafka import Message
from msgspec import UnsetType

from tillstream.kernels.facts import subject_of
from tillstream.kernels.identities import Seal
from tillstream.kernels.keys import digest_of, key_of, occurred, sale_key_of
from tillstream.kernels.sealing import seal_event
from tillstream.schemas.deadletter import encode_deadletter
from tillstream.schemas.events import (
    ROUTED_BYTES_MAX,
    AccountEvent,
    ActivityEvent,
    AdjustEvent,
    Event,
    HoldEvent,
    Malformed,
    MemberEvent,
    ReceiptEvent,
    RedeemEvent,
    ReleaseEvent,
    ReturnEvent,
    SaleEvent,
    SpendingEvent,
    TickEvent,
    TransferEvent,
    TransferredEvent,
    VoidEvent,
    decode,
    decode_from_outside,
)
from tillstream.schemas.receipts import Identity
from tillstream.schemas.replies import Reply, refused, reply_to_in
from tillstream.sinks.directory import Claim, Claiming, Directory, Found, Parking
from tillstream.sinks.replies import Replies
from tillstream.sinks.writer import Record, Writer
from tillstream.streams.topics import DEADLETTER, MEMBERS, PARKED, RECALL, TRANSACTIONS

ACCOUNT = b'{"accountid":'

CLAIMED = SaleEvent | HoldEvent | ReleaseEvent | RedeemEvent | AdjustEvent | TransferEvent
"""Events whose every delivery goes to the account of the first, whatever has become of their identity since (docs/adr/0002)."""

_encode = msgspec.json.encode


class Arrived(NamedTuple):
    """One record that decoded: its event, its bytes, and when it was produced, milliseconds since the epoch."""

    event: Event
    raw: bytes
    timestamp_ms: int


class Identify:
    """Routes batches of till events."""

    def __init__(self, directory: Directory, writer: Writer, seal: Seal, partitions: int, replies: Replies) -> None:
        self.directory = directory
        self.writer = writer
        self.seal = seal
        self.partitions = partitions
        self.replies = replies

    async def route(self, messages: Sequence[Message]) -> None:
        """Takes one batch through the steps of the module; on return everything is appended."""
        arrived, letters, replies = decode_batch(messages, self.seal)  # (1)
        await self.forward(arrived, letters)
        if replies:
            await self.replies.send(replies)

    async def forward(self, arrived: Sequence[Arrived], records: list[Record], *, history_asked: bool = False) -> None:
        """Steps (2) to (5); `records` are appended with the rest. `history_asked`: recall.py has, and history knows none of the sales.

        Raises:
            RedisEmptied: the directory has gone; nothing was appended.
        """
        accounts, _ = await asyncio.gather(self.accounts(arrived), self.directory.check_filled())  # (2)
        claims = await self.directory.claim(
            {
                key_of(a.event): Claiming(named[0] or "", date.max if history_asked else earliest_day(a.event))
                for a, named in zip(arrived, accounts, strict=True)
                if isinstance(a.event, CLAIMED)
            }
        )  # (3)
        searching = [parking_of(a) for a in arrived if isinstance(a.event, ReturnEvent | VoidEvent)]
        places = await self.directory.find_or_park(searching, history_asked=history_asked)
        found = iter(places)
        going_on = (key for key, claim in claims.items() if claim.parked and claim.account is not None)
        parked = await self.directory.parked(going_on)  # (4)
        for a, named in zip(arrived, accounts, strict=True):
            if isinstance(a.event, SpendingEvent):
                records.append(self.spending(a, named, claims, history_asked))
            elif isinstance(a.event, ActivityEvent):
                records.append(transaction(a, named[0] or ""))
            elif isinstance(a.event, SaleEvent):
                records.extend(self.sale(a, claims[key_of(a.event)], parked, history_asked))
            elif isinstance(a.event, ReturnEvent | VoidEvent):
                records.append(self.undo(a, next(found), history_asked))
            else:
                records.extend(self.everywhere(a))
        records.extend(Record(PARKED, parked_key(sale, key), None) for sale, events in parked.items() for key in events)
        await self.writer.append(records)  # (5)
        await self.directory.unpark(parked)
        if waiting := list(waiting_replies(arrived, places)):
            await self.replies.send(waiting)

    def sale(self, a: Arrived, claim: Claim, parked: dict[str, dict[str, bytes]], history_asked: bool) -> Iterator[Record]:
        """A sale goes to the account that it was claimed for, and what was parked for it follows."""
        if claim.account is None:
            yield recall_record(a)
            return
        yield transaction(a, claim.account, "" if history_asked else None)
        late = [Arrived(decode(raw, ROUTED_BYTES_MAX), raw, a.timestamp_ms) for raw in parked.get(key_of(a.event), {}).values()]  # type: ignore[arg-type]
        late.sort(key=lambda item: (occurred(item.event), key_of(item.event)))  # type: ignore[arg-type]
        for item in late:
            yield transaction(item, claim.account)

    def undo(self, a: Arrived, found: Found, history_asked: bool) -> Record:
        """A return or void goes to its sale's account, to be parked, or to be looked up."""
        if found.where == "account":
            return transaction(a, found.account, "" if history_asked else None)
        return parked_record(a) if found.where == "parked" else recall_record(a)

    def spending(self, a: Arrived, named: Sequence[str | None], claims: dict[str, Claim], history_asked: bool) -> Record:
        """What spends points goes to the account that it was claimed for; a transfer is told the receiver's, if they are together."""
        event: SpendingEvent = a.event  # type: ignore[assignment]
        recalled = "" if history_asked else None
        if isinstance(event, TransferredEvent):
            return transaction(a, event.data.to_account, recalled)
        account = claims[key_of(event)].account
        if account is None:
            return recall_record(a)
        if isinstance(event, TransferEvent):
            return transaction(a, account, recalled, receiver_attribute(named[1]))
        return transaction(a, account, recalled)

    async def accounts(self, arrived: Sequence[Arrived]) -> list[list[str | None]]:
        """Per event the accounts of the identities that it names at its time: a sale's (None: anonymous), or a spender's and a receiver's.

        A transfer's receiver is None where the two are not of one household.
        """
        named = [identities_of(a.event) for a in arrived]
        registry = await self.directory.registry.of_identities(member for some in named for member in some if member is not None)
        return [
            [None if member is None else registry.account_at(member, occurred(a.event)) for member in some]  # type: ignore[arg-type]
            if not isinstance(a.event, TransferEvent)
            else list(registry.transfer_of(a.event))
            for a, some in zip(arrived, named, strict=True)
        ]

    def everywhere(self, a: Arrived) -> Iterator[Record]:
        """A tick goes to every partition; a member event goes to `members`, where it belongs."""
        if isinstance(a.event, TickEvent):
            for partition in range(self.partitions):
                yield Record(TRANSACTIONS, None, with_account(a.raw, None), partition, a.timestamp_ms)
        elif isinstance(a.event, MemberEvent):
            yield Record(MEMBERS, subject_of(a.event).encode(), a.raw)


def identities_of(event: Event) -> list[Identity | None]:
    """The identities whose accounts an event is about; of returns and voids, their sale's account is looked up instead."""
    if isinstance(event, TransferEvent):
        return [event.data.member, event.data.to]
    return [event.data.member] if isinstance(event, CLAIMED | ActivityEvent) else []


def waiting_replies(arrived: Sequence[Arrived], places: Sequence[Found]) -> Iterator[Reply]:
    """Replies to the returns and voids that were parked, `places` saying of each in turn where its sale is."""
    searching = (a.event for a in arrived if isinstance(a.event, ReturnEvent | VoidEvent))
    for event, place in zip(searching, places, strict=True):
        if event.replyto is not None and place.where == "parked":
            yield Reply(event.replyto, "waiting", key_of(event))


def decode_batch(messages: Sequence[Message], seal: Seal) -> tuple[list[Arrived], list[Record], list[Reply]]:
    """What decoded, sealed, in order; dead letters for the rest, and replies to those of them that ask for one."""
    arrived: list[Arrived] = []
    letters: list[Record] = []
    replies: list[Reply] = []
    for message in messages:
        raw = message.value() or b""
        try:
            arrived.append(Arrived(*seal_event(decode_from_outside(raw), raw, seal), message.timestamp()[1]))
        except Malformed as problem:
            letters.append(deadletter(problem, message))
            if (to := reply_to_in(raw)) is not None:
                replies.append(refused(to, "", problem))
    return arrived, letters, replies


def deadletter(problem: Malformed, message: Message, raw: bytes | None = None) -> Record:
    """The dead letter for a record, or for the event `raw` that came to light with it."""
    place = (message.topic() or "", message.partition() or 0, message.offset() or 0)
    time = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
    value = encode_deadletter(problem, (message.value() or b"") if raw is None else raw, place, time)
    return Record(DEADLETTER, message.key(), value)


def parking_of(a: Arrived) -> Parking:
    """By its data as well: what contradicts an earlier event with its key is parked beside it, and is refused when the sale has come."""
    event: ReceiptEvent = a.event  # type: ignore[assignment]
    return Parking(sale_key_of(event), f"{key_of(event)}:{digest_of(event)}", a.raw)


def parked_record(a: Arrived) -> Record:
    parking = parking_of(a)
    return Record(PARKED, parked_key(parking.sale_key, parking.key), a.raw)


def parked_key(sale_key: str, key: str) -> bytes:
    return f"{sale_key}/{key}".encode()


def recall_record(a: Arrived) -> Record:
    """An event that, or whose sale, may be older than what Redis holds: recall.py asks history."""
    event: AccountEvent = a.event  # type: ignore[assignment]
    return Record(RECALL, sale_key_of(event).encode(), a.raw, timestamp_ms=a.timestamp_ms)


def earliest_day(event: AccountEvent) -> date:
    """The earliest local date that an event may have, in whatever time zone the program counts."""
    return occurred(event).astimezone(UTC).date() - timedelta(days=1)


def transaction(a: Arrived, account: str, recalled: str | None = None, receiver: bytes = b"") -> Record:
    """An event on its way to `account` ('': anonymous, keyed by the receipt it is about); it keeps the time it was produced at.

    `recalled` is what history has of it or its sale, '' nothing; None: history was not asked. `receiver` is a transfer's attribute.
    """
    event: AccountEvent = a.event  # type: ignore[assignment]
    key = account or sale_key_of(event)
    routed = with_account(a.raw, account or None, recalled_attribute(recalled) + receiver)
    return Record(TRANSACTIONS, key.encode(), routed, timestamp_ms=a.timestamp_ms)


def as_sent(raw: bytes, event: Event) -> bytes:
    """The event as it came in: undoes `with_account`, which alone puts attributes in front."""
    if isinstance(event.accountid, UnsetType):
        return raw
    front = len(ACCOUNT) + len(_encode(event.accountid)) + 1 + len(recalled_attribute(event.recalled))
    if isinstance(event, TransferEvent) and not isinstance(event.toaccountid, UnsetType):
        front += len(receiver_attribute(event.toaccountid))
    return b"{" + raw[front:]


def recalled_attribute(recalled: str | None) -> bytes:
    return b"" if recalled is None else b'"recalled":' + _encode(recalled) + b","


def receiver_attribute(account: str | None) -> bytes:
    """Of a transfer: the receiver's account, null where the members are not of one household."""
    return b'"toaccountid":' + _encode(account) + b","


def with_account(raw: bytes, account: str | None, extension: bytes = b"") -> bytes:
    """The event's bytes with the attribute `accountid`, and another one, in front.

    >>> with_account(b' {"id": "e1"}', "m1")
    b'{"accountid":"m1","id": "e1"}'
    """
    return ACCOUNT + _encode(account) + b"," + extension + raw.lstrip()[1:]
