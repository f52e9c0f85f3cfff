"""The worker: one Faust app with the agents of the pipeline. Open this file to see the whole of it.

    triggers ─ deliver ─► endpoints
    programs ─► what accrue judges by, in every worker
    pos.receipts ─ identify ─► transactions ─ accrue ─► ledger ─ history ─► ClickHouse
    members ─ enrol ─► Redis     ▲    │            └► Redis                   │
                                 │    └──────────────────── history ─► ClickHouse
                                 └─ recall ◄─ recall (topic): sales that Redis has let go
    clickstream ─ observe ─► Redis ◄─ regard ─ transactions          features (docs/features.md)
                               ▲──── forget ─ members
    vouchers ─ vouchers ─► Redis
    outcomes ─ learn ─► Redis: the models that offers are decided by   (docs/models.md)
"""

import os
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faust
from faust.types import TP
from mode import CrashingSupervisor

from tillstream.sinks.delivery.target import Target
from tillstream.sinks.features import PURCHASES, VISITS
from tillstream.streams.accrue import Fetched
from tillstream.streams.learn import CHECKPOINT_S
from tillstream.streams.programs import FOLLOW_EVERY_S
from tillstream.streams.runtime import HistoryRuntime, PointsRuntime, WorkerSettings
from tillstream.streams.runtime_deliver import DeliverRuntime
from tillstream.streams.runtime_offers import ModelsRuntime, OffersRuntime
from tillstream.streams.scoring import REFRESH_S
from tillstream.streams.topics import CLICKSTREAM, LEDGER, MEMBERS, OUTCOMES, RECALL, RECEIPTS, TRANSACTIONS, TRIGGERS, VOUCHERS
from tillstream.streams.transport import Transport

ROLES: dict[str, tuple[str, ...]] = {
    "points": ("identify", "enrol", "accrue", "vouchers"),
    "history": ("history", "browsing", "recall"),
    "offers": ("observe", "regard", "forget"),
    "models": ("learn",),
    "deliver": ("deliver",),
}
"""What a worker does. Each role is a consumer group of its own: while ClickHouse is away, points go on; pages don't wait for models."""

IN_PROGRESS = {
    "identify": 8, "enrol": 1, "accrue": 8, "vouchers": 1,
    "history": 2, "browsing": 1, "recall": 1,
    "observe": 8, "regard": 8, "forget": 1, "learn": 1, "deliver": 8,
}  # fmt: skip
"""Partitions in progress at once, per agent: enough to hide the waiting for Kafka and Redis, few enough to bound memory."""

STATS_EVERY_S = 0.5
SLIDE_EVERY_S = 5.0
COMMIT_EVERY_S = 1.0
CHECK_EVERY_S = 1.0
SWEEP_EVERY_S = 3_600.0


def create_app(settings: WorkerSettings, seed: str | None, role: str, targets: Sequence[Target] = ()) -> faust.App:
    """A worker's app for one of the `ROLES`; it connects when it is started. `seed`: the program's text where none is published;
    `targets`: whom the role `deliver` delivers to.
    """
    app = faust.App(
        f"tillstream-{role}",
        broker=[f"librdkafka://{address}" for address in settings.kafka.split(",")],
        datadir=Path(tempfile.gettempdir()) / f"tillstream-{uuid.uuid4().hex}",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        agent_supervisor=CrashingSupervisor,
        broker_session_timeout=settings.session_ms / 1000,
        broker_heartbeat_interval=settings.session_ms / 10_000,
        broker_max_poll_interval=settings.poll_interval_ms / 1000,
        broker_commit_interval=COMMIT_EVERY_S,
    )
    transport = Transport.of(app)
    transport.client_config.update(settings.kafka_security)
    transport.batch_rows_max = settings.history_rows if role == "history" else settings.batch_rows_max
    if settings.kafka_transactions and role == "points":
        transport.externally_committed_topics.add(TRANSACTIONS)
    worker = f"{role}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    if role == "history":
        add_history(app, transport, HistoryRuntime(settings))
    elif role == "offers":
        add_offers(app, transport, OffersRuntime(settings, worker))
    elif role == "models":
        add_models(app, transport, ModelsRuntime(settings))
    elif role == "deliver":
        add_delivery(app, transport, DeliverRuntime(settings, targets))
    else:
        add_points(app, transport, PointsRuntime(settings, seed, worker))
    return app


def add_points(app: faust.App, transport: Transport, runtime: PointsRuntime) -> None:
    """The agents that give points: decode, one kernel call, sinks; coming back for the next batch acknowledges."""

    async def recover(assigned: set[TP]) -> Mapping[TP, int]:
        await runtime.start()
        offsets = {tp: await runtime.recover(tp.partition) for tp in assigned if tp.topic == TRANSACTIONS}
        enrolled = await runtime.directory.members_offset()
        offsets |= {tp: (-1 if enrolled is None else enrolled) + 1 for tp in assigned if tp.topic == MEMBERS}
        return offsets | {tp: await runtime.vouchers.recover() for tp in assigned if tp.topic == VOUCHERS}

    transport.assignment_hooks.append(recover)

    @app.on_before_shutdown.connect
    async def stop(*_: Any, **__: Any) -> None:
        await transport.consumer.wait_empty()
        await runtime.stop()

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


def add_history(app: faust.App, transport: Transport, runtime: HistoryRuntime) -> None:
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

    @app.on_before_shutdown.connect
    async def stop(*_: Any, **__: Any) -> None:
        await transport.consumer.wait_empty()
        await runtime.stop()


def add_offers(app: faust.App, transport: Transport, runtime: OffersRuntime) -> None:
    """The agents that keep features of visitors and members; where they go on, Redis says, which has the features."""

    async def stand(assigned: set[TP]) -> Mapping[TP, int]:
        await runtime.start()
        kinds = {CLICKSTREAM: VISITS, TRANSACTIONS: PURCHASES}
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

    @app.on_before_shutdown.connect
    async def stop(*_: Any, **__: Any) -> None:
        await transport.consumer.wait_empty()
        await runtime.stop()


def add_models(app: faust.App, transport: Transport, runtime: ModelsRuntime) -> None:
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

    @app.on_before_shutdown.connect
    async def stop(*_: Any, **__: Any) -> None:
        await transport.consumer.wait_empty()
        await runtime.stop()


def add_delivery(app: faust.App, transport: Transport, runtime: DeliverRuntime) -> None:
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

    @app.on_before_shutdown.connect
    async def stop(*_: Any, **__: Any) -> None:
        await transport.consumer.wait_empty()
        await runtime.stop()
