"""Returns and voids -> `offer.returned` on `outcomes`: what a receipt had answered a decision by has come back (docs/offers.md).

In: returns and voids, as they stand on `transactions`. A return names lines of its sale and no goods, so which of them were an offer's
goods, Redis knows since the sale (sinks/bought.py). What the decision is worth then, models/learning.py says.

Delivery: at least once. Ids follow from the decision's and the return's, so what is written again is the same record.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from tillstream.kernels.keys import key_of
from tillstream.schemas.events import ReturnEvent, VoidEvent
from tillstream.schemas.offers import OFFERS_SOURCE, Outcome, ReturnedEvent
from tillstream.sinks.bought import Bought, BoughtStore
from tillstream.sinks.offers import event_key
from tillstream.sinks.writer import Record, Writer
from tillstream.streams.stats import Stats
from tillstream.streams.topics import OUTCOMES

_encode = msgspec.json.Encoder().encode


class Undone(NamedTuple):
    """A return or void: its own key, the sale's, when it happened, and what came back by the sale's lines; None: all of it."""

    key: str
    sale: str
    receipt_id: str
    at: datetime
    lines: dict[int, int] | None


class Returns:
    """Tells what came back."""

    def __init__(self, store: BoughtStore, writer: Writer, stats: Stats) -> None:
        self.store = store
        self.writer = writer
        self.stats = stats

    async def take(self, events: Sequence[ReturnEvent | VoidEvent]) -> None:
        """Takes the returns and voids of a batch; behind its sales."""
        undone = [undone_of(event) for event in events]
        found = await self.store.of(one.sale for one in undone)
        records: list[Record] = []
        for one in undone:
            for bought in found[one.sale]:
                for record in returned_records(one, bought):
                    self.stats.count_offer(bought.offer_id, "returned")
                    records.append(record)
        if records:
            await self.writer.append(records)


def undone_of(event: ReturnEvent | VoidEvent) -> Undone:
    """What an event takes back."""
    if isinstance(event, VoidEvent):
        receipt_id = event.data.receipt_id
        return Undone(key_of(event), event_key(event.source, receipt_id), receipt_id, event.time, None)
    data, lines = event.data, dict[int, int]()
    for line in data.lines:
        lines[line.original_line_no] = lines.get(line.original_line_no, 0) + line.amount
    sale = event_key(data.original_source or event.source, data.original_receipt_id)
    return Undone(key_of(event), sale, data.original_receipt_id, data.issued_at, lines)


def returned_records(undone: Undone, bought: Bought) -> Iterator[Record]:
    """The record of one decision, if any of its goods came back; never more than they cost."""
    lines = bought.lines if undone.lines is None else undone.lines
    back = [min(amount, bought.lines[line_no]) for line_no, amount in lines.items() if line_no in bought.lines]
    if back:
        data = Outcome(decision_id=bought.decision_id, receipt_id=undone.receipt_id, amount=sum(back))
        name = f"{bought.decision_id}/returned/{undone.key}"
        event = ReturnedEvent(specversion="1.0", id=name, source=OFFERS_SOURCE, time=undone.at, data=data)
        yield Record(OUTCOMES, bought.decision_id.encode(), _encode(event))
