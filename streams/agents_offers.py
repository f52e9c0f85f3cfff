"""The agents that keep features and decide on offers."""

from collections.abc import Mapping
from time import time_ns
from typing import Any

import faust
from faust.types import TP

from tillstream.sinks.features import PURCHASES, VISITS
from tillstream.streams.abandon import LOOK_EVERY_S
from tillstream.streams.programs import FOLLOW_EVERY_S
from tillstream.streams.roles import IN_PROGRESS, STATS_EVERY_S
from tillstream.streams.runtime_offers import OffersRuntime
from tillstream.streams.scoring import REFRESH_S
from tillstream.streams.topics import CLICKSTREAM, MEMBERS, TRANSACTIONS
from tillstream.streams.transport import Transport


def add(app: faust.App, transport: Transport, runtime: OffersRuntime) -> None:
    """The agents that keep features of visitors and members; where they go on, Redis says, which has the features."""

    async def stand(assigned: set[TP]) -> Mapping[TP, int]:
        await runtime.start()
        kinds = {CLICKSTREAM: VISITS, TRANSACTIONS: PURCHASES}
        for tp in assigned:
            if tp.topic == CLICKSTREAM:
                runtime.abandon.hold(tp.partition, time_ns() // 1_000_000)
        return {tp: await runtime.store.standing(kinds[tp.topic], tp.partition) + 1 for tp in assigned if tp.topic in kinds}

    transport.assignment_hooks.append(stand)

    @app.timer(interval=STATS_EVERY_S)  # type: ignore[untyped-decorator]
    async def publish_stats() -> None:
        await runtime.publish_stats()

    @app.timer(interval=FOLLOW_EVERY_S)  # type: ignore[untyped-decorator]
    async def follow_programs() -> None:
        await runtime.follow_programs()

    @app.timer(interval=REFRESH_S)  # type: ignore[untyped-decorator]
    async def refresh_champions() -> None:
        await runtime.refresh_champions()

    @app.timer(interval=LOOK_EVERY_S)  # type: ignore[untyped-decorator]
    async def look_for_carts() -> None:
        await runtime.look_for_carts([tp.partition for tp in app.consumer.assignment() if tp.topic == CLICKSTREAM])

    @app.agent(app.topic(CLICKSTREAM), name="observe", concurrency=IN_PROGRESS["observe"])
    async def observe(stream: faust.StreamT[Any]) -> None:
        async for batch in stream:
            await runtime.observe.observe(batch.partition, batch.messages)

    @app.agent(app.topic(TRANSACTIONS), name="regard", concurrency=IN_PROGRESS["regard"])
    async def regard(stream: faust.StreamT[Any]) -> None:
        async for batch in stream:
            await runtime.regard.regard(batch.partition, batch.messages)

    @app.agent(app.topic(MEMBERS), name="forget", concurrency=IN_PROGRESS["forget"])
    async def forget(stream: faust.StreamT[Any]) -> None:
        async for batch in stream:
            await runtime.forget.forget(batch.messages)
