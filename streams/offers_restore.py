"""outcomes -> decisions in Redis, where they are missing: so that caps, cool-downs and budgets hold.

A worker that starts (1) reads what decisions were appended since the last one started, or, where Redis was emptied, all of them, block by
block, and puts back what is missing; (2) where anything was, or all was read, makes the budgets what the whole topic says they triggered;
(3) notes how far Redis is filled. What of receipts may come back is put back as well (sinks/bought.py). So a Redis that came back from an
older dump is filled as well.

Left out are decisions on members that were erased since. What is not there again: how often visitors looked lately, and which purchases
were first; both begin anew.

Delivery: repeating it changes nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from tillstream.kernels.facts import Fact, limit
from tillstream.kernels.instants import instant_ms
from tillstream.kernels.offering import Made, ends
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.events import Malformed
from tillstream.schemas.offers import BoughtEvent, DecidedEvent, decode_outcome
from tillstream.schemas.program_offer_mistakes import KEPT_DAYS_MAX
from tillstream.sinks.bought import BoughtStore
from tillstream.sinks.offer_view import OfferView, Restored
from tillstream.sinks.offers import TOOK_S, event_key
from tillstream.sinks.redis import RedisEmptied
from tillstream.sinks.registry import RegistryStore
from tillstream.streams.offer_records import bought_of, offer_of
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import OUTCOMES

ROWS = 1_000
"""Decisions in one block, one round trip: some hundred kilobytes."""

REPEATED_MS = 2 * 3_600_000
"""A decision that stands twice was judged again, at most an hour after its event: its first record is no older than this."""


class Block(NamedTuple):
    """Decisions as they stand on the topic, each with the instant of its record in milliseconds; the last offset that was read; and what
    receipts answered decisions by.
    """

    decided: Sequence[tuple[DecidedEvent, int]]
    last: int
    bought: Sequence[BoughtEvent] = ()


class Triggered:
    """How many times each offer was triggered while it had a budget, by the topic; a decision that stands twice counts once.

    `decisions` are those on any offer, of the control groups too.
    """

    def __init__(self, timetable: Timetable) -> None:
        self.timetable = timetable
        self.decisions = 0
        self.counts: Counter[str] = Counter()
        self.lately: dict[str, int] = {}

    def add(self, event: DecidedEvent, appended_ms: int) -> None:
        """Takes one record, in the order of the topic."""
        name = event.data.decision_id
        while self.lately and (oldest := next(iter(self.lately.items())))[1] < appended_ms - REPEATED_MS:
            del self.lately[oldest[0]]
        if name not in self.lately:
            self.lately[name] = appended_ms
            self.decisions += 1
            self.counts[event.data.offer_id] += event.data.group == "treated" and self.had_budget(event)

    def had_budget(self, event: DecidedEvent) -> bool:
        """Whether the offer had one by the version that it was decided by; of one that was taken back, nobody knows better."""
        version = self.timetable.by_version.get(event.data.program_version)
        offers = [] if version is None else [offer for offer in version.program.offers if offer.id == event.data.offer_id]
        return not offers or offers[0].budget is not None


async def restore_offers(
    view: OfferView, registry: RegistryStore, kafka: Mapping[str, Any], timetable: Timetable, now: datetime
) -> str:
    """Takes Redis through the steps of the module; gives the token of this filling.

    Raises:
        RedisEmptied: Redis was emptied meanwhile.
    """
    filled = await view.filled()
    first = 0 if filled is None else filled.offset + 1
    last, missing, triggered = first - 1, 0, Triggered(timetable)
    blocks, receipts, since = decided_blocks(kafka, first), BoughtStore(view.client), now - timedelta(days=KEPT_DAYS_MAX)
    while (block := await asyncio.to_thread(next, blocks, None)) is not None:  # (1)
        missing += await restore_block(view, registry, timetable, [event for event, _ in block.decided], now)
        await receipts.note(bought_of(event) for event in block.bought if event.time > since)
        for event, appended_ms in block.decided:
            triggered.add(event, appended_ms)
        last = block.last
    if missing or filled is None:
        await view.restore_budgets(triggered.counts if first == 0 else await asyncio.to_thread(counted, kafka, timetable))  # (2)
    token = await view.note_filled(last, filled)  # (3)
    if token is None:
        raise RedisEmptied
    return token


async def restore_block(
    view: OfferView, registry: RegistryStore, timetable: Timetable, decided: Sequence[DecidedEvent], now: datetime
) -> int:
    """Puts decisions back where they are missing; how many were."""
    rows = await rows_of(registry, timetable, decided, now)
    took = [row.made.decision_id for row in rows if row.made.at_ms > instant_ms(now) - TOOK_S * 1_000]
    return await view.restore(rows, took)


async def rows_of(registry: RegistryStore, timetable: Timetable, decided: Sequence[DecidedEvent], now: datetime) -> list[Restored]:
    """Decisions as Redis is to have them: as far back as any cap looks, of members who were not erased since."""
    facts = await registry.facts("members", (event.data.member_id for event in decided))
    return [
        Restored(event.data.member_id, event_key(event.data.cause.source, event.data.cause.event_id), made_of(timetable, event))
        for event in decided
        if event.time > now - timedelta(days=KEPT_DAYS_MAX) and is_known_since(facts.get(event.data.member_id, ()), event.time)
    ]


def is_known_since(facts: Sequence[Fact], at: datetime) -> bool:
    """Whether a member of whom some facts are known is enrolled, and was not erased at `at` or later."""
    instant = limit(at).partition(" ")[0]
    return any(fact.kind == "enrolled" for fact in facts) and not any(fact.kind == "erased" and fact.order >= instant for fact in facts)


def counted(kafka: Mapping[str, Any], timetable: Timetable) -> Counter[str]:
    """What the whole topic says that budgets took."""
    triggered = Triggered(timetable)
    for block in decided_blocks(kafka, 0):
        for event, appended_ms in block.decided:
            triggered.add(event, appended_ms)
    return triggered.counts


def decided_blocks(kafka: Mapping[str, Any], first: int) -> Iterator[Block]:
    """The decisions from an offset on, `ROWS` at a time, with repeats."""
    decided, bought = list[tuple[DecidedEvent, int]](), list[BoughtEvent]()
    last = first - 1
    for message in read_topic(kafka, OUTCOMES, 0, first):
        last = message.offset() or 0
        try:
            event = decode_outcome(message.value() or b"")
        except Malformed:
            continue
        if isinstance(event, DecidedEvent):
            decided.append((event, message.timestamp()[1]))
        elif isinstance(event, BoughtEvent):
            bought.append(event)
        if len(decided) + len(bought) >= ROWS:
            yield Block(decided, last, bought)
            decided, bought = [], []
    if last >= first:
        yield Block(decided, last, bought)


def made_of(timetable: Timetable, event: DecidedEvent) -> Made:
    """A decision as it is kept; of an offer whose version was taken back, valid for as long as it can be answered."""
    data = event.data
    made = Made(
        offer_id=data.offer_id,
        decision_id=data.decision_id,
        channel=data.channel,
        group=data.group,
        at_ms=instant_ms(event.time),
        ends_ms=instant_ms(data.answer_by),
        answer_ms=instant_ms(data.answer_by),
        version=data.program_version,
    )
    offer = offer_of(timetable, made)
    return made if offer is None else made._replace(ends_ms=instant_ms(ends(offer, event.time, timetable.zone)))
