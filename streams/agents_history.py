"""The agents that write history, and ask it."""

from collections.abc import Mapping
from typing import Any

import faust
from faust.types import TP

from tillstream.streams.roles import IN_PROGRESS
from tillstream.streams.runtime import HistoryRuntime
from tillstream.streams.topics import CLICKSTREAM, LEDGER, OUTCOMES, RECALL, TRANSACTIONS, TRIGGERS
from tillstream.streams.transport import Transport


def add(app: faust.App, transport: Transport, runtime: HistoryRuntime) -> None:
    """The agents that write history, and ask it about what Redis has let go."""

    async def connect(assigned: set[TP]) -> Mapping[TP, int]:
        await runtime.start()
        await runtime.note_written([tp.partition for tp in assigned if tp.topic == LEDGER])
        return {}

    transport.assignment_hooks.append(connect)

    @app.agent(app.topic(TRANSACTIONS, LEDGER), name="history", concurrency=IN_PROGRESS["history"])
    async def history(stream: faust.StreamT[Any]) -> None:
        async for batch in stream:
            await runtime.history.write(batch.topic, batch.partition, batch.messages)

    @app.agent(app.topic(CLICKSTREAM, OUTCOMES, TRIGGERS), name="browsing", concurrency=IN_PROGRESS["browsing"])
    async def browsing(stream: faust.StreamT[Any]) -> None:
        async for batch in stream:
            await runtime.history.write(batch.topic, batch.partition, batch.messages)

    @app.agent(app.topic(RECALL), name="recall", concurrency=IN_PROGRESS["recall"])
    async def recall(stream: faust.StreamT[Any]) -> None:
        async for batch in stream:
            await runtime.recall.recall(batch.messages)
