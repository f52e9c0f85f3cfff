"""The agents that give points."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import faust
from faust.types import TP

from tillstream.streams.accrue import Fetched
from tillstream.streams.programs import FOLLOW_EVERY_S
from tillstream.streams.roles import IN_PROGRESS, STATS_EVERY_S
from tillstream.streams.runtime import PointsRuntime
from tillstream.streams.topics import MEMBERS, RECEIPTS, TRANSACTIONS, VOUCHERS
from tillstream.streams.transport import Transport

SLIDE_EVERY_S = 5.0
SWEEP_EVERY_S = 3_600.0


def add(app: faust.App, transport: Transport, runtime: PointsRuntime) -> None:
    """The agents that give points: decode, one kernel call, sinks; coming back for the next batch acknowledges."""

    async def recover(assigned: set[TP]) -> Mapping[TP, int]:
        await runtime.start()
        offsets = {tp: await runtime.recover(tp.partition) for tp in assigned if tp.topic == TRANSACTIONS}
        enrolled = await runtime.directory.members_offset()
        offsets |= {tp: (-1 if enrolled is None else enrolled) + 1 for tp in assigned if tp.topic == MEMBERS}
        return offsets | {tp: await runtime.vouchers.recover() for tp in assigned if tp.topic == VOUCHERS}

    transport.assignment_hooks.append(recover)

    @app.timer(interval=STATS_EVERY_S)  # type: ignore[untyped-decorator]
    async def publish_stats() -> None:
        await runtime.publish_stats()
        await runtime.tell_alive()

    @app.timer(interval=FOLLOW_EVERY_S)  # type: ignore[untyped-decorator]
    async def follow_programs() -> None:
        await runtime.follow_programs()

    @app.timer(interval=SLIDE_EVERY_S)  # type: ignore[untyped-decorator]
    async def slide_window() -> None:
        if runtime.started and not runtime.posters.looks_at_members:  # Judging an account again takes all of its postings.
            for partition in {tp.partition for tp in app.consumer.assignment() if tp.topic == TRANSACTIONS}:
                await runtime.window.slide(partition, datetime.now(UTC).date())

    @app.timer(interval=SWEEP_EVERY_S)  # type: ignore[untyped-decorator]
    async def sweep_vouchers() -> None:
        if runtime.started and any(tp.topic == VOUCHERS for tp in app.consumer.assignment()):
            await runtime.vouchers.sweep(datetime.now(UTC))

    @app.agent(app.topic(RECEIPTS), name="identify", concurrency=IN_PROGRESS["identify"])
    async def identify(stream: faust.StreamT[Any]) -> None:
        async for batch in stream:
            await runtime.identify.route(batch.messages)

    @app.agent(app.topic(MEMBERS), name="enrol", concurrency=IN_PROGRESS["enrol"])
    async def enrol(stream: faust.StreamT[Any]) -> None:
        async for batch in stream:
            await runtime.enrol.enrol(batch.messages)

    @app.agent(app.topic(TRANSACTIONS), name="accrue", concurrency=IN_PROGRESS["accrue"])
    async def accrue(stream: faust.StreamT[Any]) -> None:
        async for batch in stream:
            membership = transport.consumer.consumer_group_metadata(batch)
            await runtime.accrue.post(Fetched(batch.partition, batch.messages, membership))

    @app.agent(app.topic(VOUCHERS), name="vouchers", concurrency=IN_PROGRESS["vouchers"])
    async def vouchers(stream: faust.StreamT[Any]) -> None:
        async for batch in stream:
            await runtime.vouchers.take(batch.messages)
