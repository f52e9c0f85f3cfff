"""Events, ledger, page views and offers -> ClickHouse: blocks of rows, written in a thread, since the client waits (sinks/history.py)."""

import asyncio
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import structlog
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Message

from tillstream.sinks.history_offers import OfferHistory
from tillstream.sinks.state import StateStore
from tillstream.streams.topics import CLICKSTREAM, LEDGER, OUTCOMES, TRANSACTIONS, TRIGGERS

P = ParamSpec("P")
T = TypeVar("T")

RETRY_FIRST_S = 0.5
RETRY_MAX_S = 15.0
"""ClickHouse may be away for long: history waits for it, and everything else goes on."""

_log = structlog.get_logger(__name__)


async def patiently(turn: asyncio.Lock, ask: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Calls ClickHouse in a thread, one call at a time, again and again until it answers."""
    wait_s = RETRY_FIRST_S
    async with turn:
        while True:
            try:
                return await asyncio.to_thread(ask, *arguments, **named)
            except (ClickHouseError, OSError) as error:
                _log.warning("clickhouse_away", retry_s=wait_s, error=str(error)[:200])
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_MAX_S)


class HistoryAgent:
    """Hands batches to the history sink, one at a time."""

    def __init__(self, history: OfferHistory, state: StateStore, turn: asyncio.Lock) -> None:
        self.history = history
        self.state = state
        self.turn = turn
        self.sinks = {
            TRANSACTIONS: history.write_transactions,
            LEDGER: history.write_ledger,
            CLICKSTREAM: history.write_clicks,
            OUTCOMES: history.write_outcomes,
            TRIGGERS: history.write_triggers,
        }

    async def write(self, topic: str, partition: int, messages: Sequence[Message]) -> None:
        """Writes one batch, however long ClickHouse is away; then Redis may let go of what it has."""
        records = [(message.offset() or 0, message.value() or b"") for message in messages]
        await patiently(self.turn, self.sinks[topic], partition, records)
        if topic == LEDGER:
            await self.state.note_history(partition, records[-1][0])
