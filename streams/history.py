"""transactions, ledger -> ClickHouse: blocks of rows, written in a thread, since the client waits (sinks/history.py has the guarantee)."""

import asyncio
from collections.abc import Sequence

from confluent_kafka import Message

from tillstream.sinks.history import History
from tillstream.streams.topics import TRANSACTIONS

RETRY_FIRST_S = 0.5
RETRY_MAX_S = 15.0
"""ClickHouse may be away for long: history waits for it, and everything else goes on."""


class HistoryAgent:
    """Hands batches to the history sink."""

    def __init__(self, history: History) -> None:
        self.history = history

    async def write(self, topic: str, partition: int, messages: Sequence[Message]) -> None:
        """Writes one batch, however long ClickHouse takes to answer."""
        records = [(message.offset() or 0, message.value() or b"") for message in messages]
        sink = self.history.write_transactions if topic == TRANSACTIONS else self.history.write_ledger
        await asyncio.to_thread(sink, partition, records)
