"""The agent that learns."""

from collections.abc import Mapping
from typing import Any

import faust
from faust.types import TP

from tillstream.streams.learn import CHECKPOINT_S
from tillstream.streams.roles import IN_PROGRESS
from tillstream.streams.runtime_offers import ModelsRuntime
from tillstream.streams.topics import OUTCOMES
from tillstream.streams.transport import Transport


def add(app: faust.App, transport: Transport, runtime: ModelsRuntime) -> None:
    """The agent that learns; where it goes on, its checkpoint says."""

    async def resume(assigned: set[TP]) -> Mapping[TP, int]:
        await runtime.start()
        return {tp: await runtime.learn.start() for tp in assigned if tp.topic == OUTCOMES}

    transport.assignment_hooks.append(resume)

    @app.timer(interval=CHECKPOINT_S)  # type: ignore[untyped-decorator]
    async def checkpoint() -> None:
        if runtime.started:
            await runtime.learn.checkpoint()

    @app.agent(app.topic(OUTCOMES), name="learn", concurrency=IN_PROGRESS["learn"])
    async def learn(stream: faust.StreamT[Any]) -> None:
        async for batch in stream:
            await runtime.learn.learn(batch.messages)
