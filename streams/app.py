"""The worker: one Faust app with the agents of the pipeline. Here is the whole of it; agents_*.py has each role's.

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import faust
from mode import CrashingSupervisor

from tillstream.sinks.delivery.target import Target
from tillstream.streams.runtime import HistoryRuntime, PointsRuntime, WorkerSettings
from tillstream.streams.topics import TRANSACTIONS
from tillstream.streams.transport import Transport

COMMIT_EVERY_S = 1.0


def create_app(settings: WorkerSettings, seed: str | None, role: str, targets: Sequence[Target] = ()) -> faust.App:
    """A worker's app for one role; it connects when it is started. `seed`: the program's text where none is published;
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
    runtime = add_agents(app, transport, settings, seed, role, targets, worker)

    @app.on_before_shutdown.connect
    async def stop(*_: Any, **__: Any) -> None:
        await transport.consumer.wait_empty()
        await runtime.stop()

    return app


class Stops(Protocol):
    """What agents work with."""

    async def stop(self) -> None:
        """Ends after what is in progress."""


def add_agents(
    app: faust.App, transport: Transport, settings: WorkerSettings, seed: str | None, role: str, targets: Sequence[Target], worker: str
) -> Stops:
    """The agents of a role, and what they work with.

    Imported here: models take River, 1.8 s of start-up and 180 MiB, which no till should wait for.
    """
    if role == "points":
        from tillstream.streams import agents_points

        points = PointsRuntime(settings, seed, worker)
        agents_points.add(app, transport, points)
        return points
    if role == "history":
        from tillstream.streams import agents_history

        history = HistoryRuntime(settings)
        agents_history.add(app, transport, history)
        return history
    if role == "offers":
        from tillstream.streams import agents_offers
        from tillstream.streams.runtime_offers import OffersRuntime

        offers = OffersRuntime(settings, worker)
        agents_offers.add(app, transport, offers)
        return offers
    if role == "models":
        from tillstream.streams import agents_models
        from tillstream.streams.runtime_offers import ModelsRuntime

        models = ModelsRuntime(settings)
        agents_models.add(app, transport, models)
        return models
    from tillstream.streams import agents_deliver
    from tillstream.streams.runtime_deliver import DeliverRuntime

    deliver = DeliverRuntime(settings, targets)
    agents_deliver.add(app, transport, deliver)
    return deliver
