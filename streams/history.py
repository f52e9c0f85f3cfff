"""transactions, ledger -> ClickHouse: blocks of rows, written in a thread, since the client waits (sinks/history.py has the guarantee)."""

import asyncio
from collections.abc import Sequence

import structlog
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Message

from tillstream.sinks.history import History
from tillstream.streams.topics import TRANSACTIONS

RETRY_FIRST_S = 0.5
RETRY_MAX_S = 15.0
"""ClickHouse may be away for long: history waits for it, and everything else goes on."""

_log = structlog.get_logger(__name__)


class HistoryAgent:
    """Hands batches to the history sink, one at a time."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.turn = asyncio.Lock()

    async def write(self, topic: str, partition: int, messages: Sequence[Message]) -> None:
        """Writes one batch, however long ClickHouse is away."""
        records = [(message.offset() or 0, message.value() or b"") for message in messages]
        sink = self.history.write_transactions if topic == TRANSACTIONS else self.history.write_ledger
        wait_s = RETRY_FIRST_S
        async with self.turn:
            while True:
                try:
                    await asyncio.to_thread(sink, partition, records)
                    return
                except (ClickHouseError, OSError) as error:
                    _log.warning("clickhouse_away", topic=topic, partition=partition, retry_s=wait_s, error=str(error)[:200])
                    await asyncio.sleep(wait_s)
                    wait_s = min(2 * wait_s, RETRY_MAX_S)
