"""recall -> transactions: events about sales that are older than Redis remembers, with what history has of them (issue: G2 without limit).

Only these events pay for the look-up; while ClickHouse is away they wait on their topic, and everything else goes on. What history has
travels with the event, in the attribute `recalled`, so `accrue` needs no ClickHouse and the log alone decides (G8).

Redis lets go of a posting only once ClickHouse has it (window.py), so between the two every sale is found. Delivery: at least once.
"""

import asyncio
from collections.abc import Sequence

from confluent_kafka import Message

from tillstream.kernels.keys import sale_key_of
from tillstream.schemas.events import ROUTED_BYTES_MAX, Malformed, ReceiptEvent, SpendingEvent, decode
from tillstream.schemas.ledger import Posting, decode_record
from tillstream.sinks.archive import Archive
from tillstream.sinks.writer import Record
from tillstream.streams.history import patiently
from tillstream.streams.identify import Arrived, Identify, as_sent, deadletter, transaction


class Recall:
    """Asks history about old sales."""

    def __init__(self, archive: Archive, identify: Identify, turn: asyncio.Lock) -> None:
        self.archive = archive
        self.identify = identify
        self.turn = turn

    async def recall(self, messages: Sequence[Message]) -> None:
        """Takes one batch; what history knows goes straight to its account, the rest is identified as if it were new."""
        arrived: list[Arrived] = []
        records: list[Record] = []
        for message in messages:
            try:
                arrived.append(read(message))
            except Malformed as problem:
                records.append(deadletter(problem, message))
        sales = list({sale_key_of(a.event) for a in arrived})  # type: ignore[arg-type]
        known = await patiently(self.turn, self.archive.find, sales)
        unknown: list[Arrived] = []
        for a in arrived:
            there = known.get(sale_key_of(a.event), [])  # type: ignore[arg-type]
            sale = posting_among(there, sale_key_of(a.event))  # type: ignore[arg-type]
            if sale is None:
                unknown.append(a)
            else:
                records.append(transaction(a, sale.account_id or "", b"\n".join(there).decode()))
        await self.identify.forward(unknown, records, history_asked=True)


def read(message: Message) -> Arrived:
    """An event that `identify` or `accrue` sent here; `accrue`'s have an account already, which is found anew.

    Raises:
        Malformed: it is neither a receipt nor does it spend points.
    """
    raw = message.value() or b""
    event = decode(raw, ROUTED_BYTES_MAX)
    if not isinstance(event, ReceiptEvent | SpendingEvent):
        raise Malformed("misplaced", "$.type", "only receipts and what spends points belong on the topic `recall`")
    return Arrived(event, as_sent(raw, event), message.timestamp()[1])


def posting_among(records: Sequence[bytes], key: str) -> Posting | None:
    """The posting of the sale, or of what spent points, that `key` names, among those of its returns."""
    for raw in records:
        record = decode_record(raw)
        if isinstance(record, Posting) and record.posting_id == key:
            return record
    return None
