"""outcomes -> decisions in Redis, where they were emptied: so that caps, cool-downs and budgets hold.

What is not there again: how often visitors looked lately, and which purchases were first; both begin anew.

Delivery: repeating it changes nothing. Where a mark (`RESTORED`) stands, Redis has them and nothing is read.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tillstream.kernels.instants import instant_ms
from tillstream.kernels.offering import Made, ends
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.events import Malformed
from tillstream.schemas.offers import BoughtEvent, DecidedEvent, decode_outcome
from tillstream.schemas.program_offer_mistakes import KEPT_DAYS_MAX
from tillstream.sinks.bought import BoughtStore
from tillstream.sinks.offers import OfferStore, event_key
from tillstream.streams.offer_records import bought_of, offer_of
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import OUTCOMES

RESTORED = "tillstream:offers"
"""Not there: Redis was never filled, or has been emptied."""

ROWS = 1_000
"""Decisions in one round trip."""


async def restore_offers(store: OfferStore, kafka: Mapping[str, Any], timetable: Timetable, now: datetime) -> None:
    """Restores what `outcomes` tells, unless it is there; decisions of members as far back as any cap looks, of budgets all."""
    if await store.client.exists(RESTORED):
        return
    decided, bought = await asyncio.to_thread(read_outcomes, kafka)
    await store.restore_budgets(Counter(event.data.offer_id for event in decided if event.data.group == "treated"))
    recent = [event for event in decided if event.time > now - timedelta(days=KEPT_DAYS_MAX)]
    for first in range(0, len(recent), ROWS):
        rows = recent[first : first + ROWS]
        await store.restore(
            (event.data.member_id, event_key(event.data.cause.source, event.data.cause.event_id), made_of(timetable, event))
            for event in rows
        )
    lately = [event for event in bought if event.time > now - timedelta(days=KEPT_DAYS_MAX)]
    await restore_bought(BoughtStore(store.client), decided, lately)
    await store.client.set(RESTORED, 1)


async def restore_bought(store: BoughtStore, decided: Sequence[DecidedEvent], bought: Sequence[BoughtEvent]) -> None:
    """Restores what of receipts may come back."""
    offers = {event.data.decision_id: event.data.offer_id for event in decided}
    known = [bought_of(offers[one.data.decision_id], one) for one in bought if one.data.decision_id in offers]
    for first in range(0, len(known), ROWS):
        await store.note(known[first : first + ROWS])


def read_outcomes(kafka: Mapping[str, Any]) -> tuple[list[DecidedEvent], list[BoughtEvent]]:
    """All decisions, and all receipts that answered some, each once."""
    found: dict[str, DecidedEvent] = {}
    bought: dict[str, BoughtEvent] = {}
    for message in read_topic(kafka, OUTCOMES, 0, 0):
        try:
            event = decode_outcome(message.value() or b"")
        except Malformed:
            continue
        if isinstance(event, DecidedEvent):
            found.setdefault(event.id, event)
        elif isinstance(event, BoughtEvent):
            bought.setdefault(event.id, event)
    return list(found.values()), list(bought.values())


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
