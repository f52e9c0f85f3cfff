"""The agent that delivers."""

from collections.abc import Mapping
from typing import Any

import faust
from faust.types import TP

from tillstream.streams.roles import IN_PROGRESS
from tillstream.streams.runtime_deliver import DeliverRuntime
from tillstream.streams.topics import TRIGGERS
from tillstream.streams.transport import Transport

CHECK_EVERY_S = 1.0


def add(app: faust.App, transport: Transport, runtime: DeliverRuntime) -> None:
    """The agent that delivers triggers; attempts go on beside it."""

    async def recover(assigned: set[TP]) -> Mapping[TP, int]:
        offsets = await runtime.recover([tp.partition for tp in assigned])
        return {TP(TRIGGERS, partition): offset for partition, offset in offsets.items()}

    transport.assignment_hooks.append(recover)

    @app.on_partitions_revoked.connect
    async def let_go(*_: Any, **__: Any) -> None:
        await runtime.let_go()

    @app.timer(interval=CHECK_EVERY_S)  # type: ignore[untyped-decorator]
    async def check() -> None:
        runtime.check()

    @app.agent(app.topic(TRIGGERS), name="deliver", concurrency=IN_PROGRESS["deliver"])
    async def deliver(stream: faust.StreamT[Any]) -> None:
        async for batch in stream:
            await runtime.take(batch.partition, batch.messages)
