"""What `verify` compares of offers: the topic `outcomes`, read once from its beginning, with Redis and with the programs.

    budgets     Redis took at least as many triggers from an offer's budget as the topic tells (it takes them first, so it may have more),
                and the topic tells of no more than the largest budget that a version of the offer had
    decisions   what caps and cool-downs look at: every decision of the last quarter on a member that is still known is in Redis

It holds at any moment, also while offers are decided: Redis is read behind the topic, and is written before it.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tillstream.kernels.timetable import Timetable
from tillstream.schemas.offers import DecidedEvent
from tillstream.sinks.offer_view import OfferView
from tillstream.sinks.redis import Redis
from tillstream.sinks.registry import RegistryStore
from tillstream.streams.offers_restore import Triggered, decided_blocks, rows_of
from tillstream.streams.programs import read_shelf
from tillstream.verify_groups import Finding


class OffersFound(NamedTuple):
    """How many decisions the topic has, and what does not hold."""

    decisions: int
    findings: list[Finding]


async def verify_offers(kafka: Mapping[str, Any], client: Redis) -> OffersFound:
    """Compares the topic with Redis; nothing where no program was published."""
    timetable = (await asyncio.to_thread(read_shelf, kafka)).timetable()
    if timetable is None:
        return OffersFound(0, [])
    view, registry, now = OfferView(client), RegistryStore(client), datetime.now(UTC)
    triggered, findings = Triggered(timetable), list[Finding]()
    blocks = decided_blocks(kafka, 0)
    while (block := await asyncio.to_thread(next, blocks, None)) is not None:
        for event, appended_ms in block.decided:
            triggered.add(event, appended_ms)
        findings += await missing(view, registry, timetable, [event for event, _ in block.decided], now)
    return OffersFound(triggered.decisions, [*findings, *budgets(timetable, triggered.counts, await view.spent())])


async def missing(
    view: OfferView, registry: RegistryStore, timetable: Timetable, decided: Sequence[DecidedEvent], now: datetime
) -> list[Finding]:
    """The decisions of a block that Redis has not, or has otherwise."""
    rows = await rows_of(registry, timetable, decided, now)
    held = await view.decisions([(row.member, row.event) for row in rows])
    return [
        Finding("a decision in Redis", f"{row.member} {row.made.offer_id} {row.made.decision_id}", 1, 0)
        for row, found in zip(rows, held, strict=True)
        if found != row.made.decision_id
    ]


def budgets(timetable: Timetable, triggered: Mapping[str, int], spent: Mapping[str, int]) -> Iterator[Finding]:
    """Budgets that were taken from otherwise than the topic tells, or overspent."""
    limits: dict[str, int] = {}
    for version in timetable.versions:
        for offer in version.program.offers:
            if offer.budget is not None:
                limits[offer.id] = max(offer.budget, limits.get(offer.id, 0))
    for offer_id, limit in sorted(limits.items()):
        told = triggered.get(offer_id, 0)
        if spent.get(offer_id, 0) < told:
            yield Finding("an offer's budget in Redis", offer_id, told, spent.get(offer_id, 0))
        if told > limit:
            yield Finding("an offer's budget", offer_id, limit, told)
