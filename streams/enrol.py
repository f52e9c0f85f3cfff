"""members -> Redis, transactions: who is who. Member events may also arrive on pos.receipts; `identify` passes them on to here.

A batch goes through these steps, in this order:

(1) decode; what is no member event becomes a dead letter;
(2) note what the events say, by member and in the indexes (sinks/registry.py), and have the next tick look at the accounts concerned, which
    may be one group now, or no more (groups.py);
(3) append: enrolments, segments and merges, to their accounts; to provisional accounts, that they are taken over (takeovers.py); dead
    letters for what contradicts an earlier event, and for merges that close a cycle; and of each member that an event was about one record
    with all that is known of it, which takes the place of the events themselves once the broker compacts the topic
    (schemas/registrations.py);
(4) reply to the gateways that asked (replies.py); to enrolments and segments their account replies, which knows what it gave;
(5) acknowledge.

Delivery: at least once; the idempotency key is the event's natural key.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from confluent_kafka import Message

from tillstream.kernels.facts import Fact, Noted, fact_in, fact_of, subject_of
from tillstream.kernels.identities import PROVISIONAL, Seal
from tillstream.kernels.keys import key_of
from tillstream.kernels.occasions import impersonal
from tillstream.kernels.registry import circular_merge
from tillstream.kernels.sealing import seal_event
from tillstream.schemas.events import Malformed, MemberEvent, MergedEvent, MergeEvent, ProfileEvent, decode
from tillstream.schemas.receipts import Identity
from tillstream.schemas.registrations import Known, decode_known, encode_known
from tillstream.schemas.replies import Reply, refused
from tillstream.sinks.directory import Directory
from tillstream.sinks.replies import Replies
from tillstream.sinks.writer import Record, Writer
from tillstream.streams.groups import Groups
from tillstream.streams.identify import deadletter, with_account
from tillstream.streams.takeovers import first_enrolments, takeover
from tillstream.streams.topics import MEMBERS, TRANSACTIONS

_encode = msgspec.json.encode


class Said(NamedTuple):
    """What one record says of one member; `event` is None where it is a record of our own."""

    member: str
    facts: list[Fact]
    event: MemberEvent | None


class Enrol:
    """Keeps the registry."""

    def __init__(self, directory: Directory, writer: Writer, seal: Seal, groups: Groups, replies: Replies) -> None:
        self.directory = directory
        self.writer = writer
        self.seal = seal
        self.groups = groups
        self.replies = replies

    async def enrol(self, messages: Sequence[Message]) -> None:
        """Takes one batch of member events through the steps of the module."""
        said: list[tuple[Said, Message]] = []
        records: list[Record] = []
        replies: list[Reply] = []
        for message in messages:
            try:
                if raw := message.value():  # Without one it is a tombstone.
                    said.append((said_in(raw, self.seal), message))
            except Malformed as problem:
                records.append(deadletter(problem, message))  # (1)
        erased = {item.member for item, _ in said if any(fact.kind == "erased" for fact in item.facts)}
        related = await self.groups.related(erased) if erased else set()
        noted = await self.directory.registry.note([(item.member, fact) for item, _ in said for fact in item.facts])  # (2)
        places = iter(noted)
        outcomes = [(item, message, [next(places) for _ in item.facts]) for item, message in said]
        news = {item.member for item, _, statuses in outcomes if item.event is not None or "added" in statuses}
        await self.groups.review({*related, *await self.groups.related(news)} if news else related)
        events = [(item, message, statuses[0]) for item, message, statuses in outcomes if item.event is not None]
        if events:
            records += [deadletter(conflict(item), message) for item, message, status in events if status == "other"]
            circular = await self.circular(events)
            records += [deadletter(circular_merge(event), message) for event, message in circular]
            replies += replies_to(events, [event for event, _ in circular])
            taken = [(item, message) for item, message, status in events if status in {"added", "same"}]
            records += await self.enrolments(taken)
            records += merges(taken, [event for event, _ in circular])
            records += await self.takeovers(taken)
            records += await self.known(item.member for item, _, _ in events)
        await self.writer.append(records)  # (3)
        if messages:
            await self.directory.note_members(messages[-1].offset() or 0)
        if replies:
            await self.replies.send(replies)  # (4)

    async def circular(self, events: Sequence[tuple[Said, Message, Noted]]) -> list[tuple[MergedEvent, Message]]:
        """Merges that close a cycle, by what is known now; they are noted, and count if an earlier unmerge still comes."""
        merges = [
            (item.event, item.facts[0].order, message)
            for item, message, status in events
            if isinstance(item.event, MergedEvent) and status != "other"
        ]
        registry = await self.directory.registry.of_accounts(subject_of(event) for event, _, _ in merges)
        refused = registry.merges().refused
        return [(event, message) for event, order, message in merges if order in refused]

    async def enrolments(self, events: Sequence[tuple[Said, Message]]) -> list[Record]:
        """Enrolments and segments on their way to the accounts of their members."""
        enrolled = [(item.event, message) for item, message in events if isinstance(item.event, ProfileEvent)]
        registry = await self.directory.registry.of_identities(Identity("member", event.data.member_id) for event, _ in enrolled)
        accounts = [registry.account_at(Identity("member", event.data.member_id), event.time) for event, _ in enrolled]
        return [
            Record(TRANSACTIONS, account.encode(), with_account(announced(event), account), timestamp_ms=message.timestamp()[1])
            for (event, message), account in zip(enrolled, accounts, strict=True)
        ]

    async def takeovers(self, events: Sequence[tuple[Said, Message]]) -> list[Record]:
        """What tells provisional accounts that are known that the member who enrolled their identity first takes them over."""
        facts = {fact.key: message for item, message in events for fact in item.facts if fact.kind in {"enrolled", "identity_added"}}
        digests = {digest for item, _ in events for fact in item.facts if fact.key in facts for digest in fact.value["identities"]}
        firsts = await first_enrolments(self.directory.registry, (PROVISIONAL + digest for digest in digests))
        known = await self.groups.known(sorted(account for account, first in firsts.items() if first.key in facts))
        return [takeover(account, firsts[account], facts[firsts[account].key].timestamp()[1]) for account in known]

    async def known(self, members: Iterable[str]) -> list[Record]:
        """All that is known of members, one record each."""
        facts = await self.directory.registry.facts("members", members)
        return [
            Record(MEMBERS, member.encode(), encode_known(Known(member, [fact.line for fact in there])))
            for member, there in facts.items()
        ]


def said_in(raw: bytes, seal: Seal) -> Said:
    """What a record of the topic says.

    Raises:
        Malformed: it is no member event.
    """
    if (known := decode_known(raw)) is not None:
        return Said(known.member_id, [fact_in(line) for line in known.facts], None)
    event = decode(raw)
    if not isinstance(event, MemberEvent):
        raise Malformed("misplaced", "$.type", "only member events belong on the topic `members`")
    sealed, _ = seal_event(event, raw, seal)
    return Said(subject_of(sealed), [fact_of(sealed)], sealed)


def replies_to(events: Sequence[tuple[Said, Message, Noted]], circular: Sequence[MergedEvent]) -> Iterator[Reply]:
    """What became of the events that asked, but for those that go on to their accounts."""
    for item, _, status in events:
        event = item.event
        if event is None or event.replyto is None:
            continue
        if status == "other":
            yield refused(event.replyto, key_of(event), conflict(item))
        elif event in circular:
            yield refused(event.replyto, key_of(event), circular_merge(event))  # type: ignore[arg-type]
        elif status == "forgotten":
            problem = Malformed("erased", "$.time", "the member was erased after this; nothing of it is kept")
            yield refused(event.replyto, key_of(event), problem)
        elif not isinstance(event, ProfileEvent):
            yield Reply(event.replyto, "duplicate" if status == "same" else "accepted", key_of(event))


def announced(event: ProfileEvent) -> bytes:
    """An event as an account is told of it: that it happened. What it says of a person stays where an erasure finds it."""
    return _encode(msgspec.structs.replace(event, data=impersonal(event)))


def merges(events: Iterable[tuple[Said, Message]], circular: Sequence[MergedEvent]) -> Iterator[Record]:
    """Merges and unmerges on their way to the accounts of those who are merged; history need not be asked about them."""
    for item, message in events:
        event = item.event
        if isinstance(event, MergeEvent) and event not in circular:
            raw = _encode(msgspec.structs.replace(event, replyto=None, recalled=""))
            yield Record(TRANSACTIONS, event.data.from_.encode(), with_account(raw, event.data.from_), timestamp_ms=message.timestamp()[1])


def conflict(item: Said) -> Malformed:
    return Malformed("conflict", "$.data", f"an event of member {item.member!r} is known with other data")
