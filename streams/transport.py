"""`librdkafka://`: a Faust transport whose one event is one fetched batch of one partition.

In: records of the subscribed topics. Out: `Batch`es in agents (`async for batch in stream`), raw librdkafka messages
inside; committed offsets; records sent through Faust. Faust's path costs 130-200 µs an event, so events are batches.

    app = faust.App("fresh", broker="librdkafka://127.0.0.1:9092", ...)
    transport = Transport.of(app)
    transport.externally_committed_topics.add("transactions")
    transport.assignment_hooks.append(replay_ledger_tail)

    @app.agent(app.topic("transactions"), concurrency=8)
    async def accrue(stream):
        async for batch in stream:      # 8 partitions in progress, each one batch after another
            ...                         # coming back for the next batch acknowledges this one

`concurrency` is the number of partitions in progress at once in one worker; a partition never has two batches on
their way, so any number of actors may share one queue, and nobody is started or stopped by a rebalance. With
`isolated_partitions=True` Faust keeps an actor per partition instead: that works too, but a rebalance cancels
the actors of lost partitions, in the middle of a batch where it outlasts `revoke_wait_s`. Prefer `concurrency`.

An agent that raises has not acknowledged; with `agent_supervisor=mode.CrashingSupervisor` the worker crashes, with
Faust's default the agent is restarted with the same batch. Do not use `stream.take` (it acknowledges what raised).
"""

from __future__ import annotations

from typing import Any, cast

import confluent_kafka
import faust
from faust.exceptions import ImproperlyConfigured
from faust.transport import base
from faust.types import AppT
from yarl import URL

from tillstream.streams.transport_consumer import REVOKE_WAIT_S, AssignmentHook, BatchConsumer, Fetcher, StaleBatch
from tillstream.streams.transport_inflight import Batch
from tillstream.streams.transport_producer import BatchProducer
from tillstream.streams.transport_stream import BatchConductor, BatchStream

__all__ = ["AssignmentHook", "Batch", "StaleBatch", "Transport"]

# Big enough to spread the cost of one event and one transaction, small enough to be processed within some 50 ms.
BATCH_ROWS_MAX = 2_000
# 2,000 receipts of 1.4 kB are 2.8 MB; larger records make smaller batches.
BATCH_BYTES_MAX = 4 * 1024 * 1024
# What waits behind the batch in progress, of one partition: four fetches (`consumer_max_fetch_size` is 1 MB).
BACKLOG_BYTES_MAX = 4 * 1024 * 1024
# All records that a worker holds beside librdkafka's own queue.
IN_FLIGHT_BYTES_MAX = 64 * 1024 * 1024
# librdkafka's queue of prefetched records: some five batches, so that an agent never waits for the network.
QUEUED_KBYTES_MAX = 16 * 1024
# With a full queue librdkafka pauses fetching for this long; its default of a second would stall a fast agent.
FETCH_BACKOFF_MS = 5
# Apache Kafka answers a waiting fetch as soon as there is a record; Tansu looks again after half of this wait, so it
# bounds the delay of a lone record. An idle worker asks each broker 100 times a second in return.
FETCH_WAIT_MS = 10


class Transport(base.Transport):
    """Settings are attributes, to be changed before the app starts; `client_config` goes to librdkafka as it is."""

    Consumer = BatchConsumer
    Producer = BatchProducer
    Conductor = BatchConductor
    Fetcher = Fetcher

    default_port = 9092
    driver_version = f"confluent_kafka={confluent_kafka.__version__}"

    batch_rows_max: int = BATCH_ROWS_MAX
    batch_bytes_max: int = BATCH_BYTES_MAX
    backlog_bytes_max: int = BACKLOG_BYTES_MAX
    in_flight_bytes_max: int = IN_FLIGHT_BYTES_MAX
    queued_kbytes_max: int = QUEUED_KBYTES_MAX
    fetch_wait_ms: int = FETCH_WAIT_MS
    #: Seconds that a started batch may take to end at a rebalance; keep it below `broker_max_poll_interval`.
    revoke_wait_s: float = REVOKE_WAIT_S

    def __init__(self, url: list[URL], app: AppT, **kwargs: Any) -> None:
        super().__init__(url, app, **kwargs)
        #: Topics whose offsets somebody else commits, in a transaction; the consumer never does.
        self.externally_committed_topics: set[str] = set()
        #: Awaited in order with the assigned partitions, before their records flow; return offsets to start from.
        self.assignment_hooks: list[AssignmentHook] = []
        #: Settings of librdkafka for all clients, such as security.protocol.
        self.client_config: dict[str, Any] = {}
        _install_stream(app)

    @classmethod
    def of(cls, app: AppT) -> Transport:
        """The transport of an app whose broker is `librdkafka://`."""
        transport = app.transport
        if not isinstance(transport, cls):
            raise ImproperlyConfigured(f"The broker of {app} is not librdkafka://.")
        return transport

    @property
    def consumer(self) -> BatchConsumer:
        """The app's consumer, with its `consumer_group_metadata(batch)` and `in_flight`."""
        return cast(BatchConsumer, self.app.consumer)

    def client_base_config(self) -> dict[str, Any]:
        """librdkafka's settings for every client."""
        conf = self.app.conf
        servers = ",".join(f"{url.host or '127.0.0.1'}:{url.port or self.default_port}" for url in self.url)
        return {"bootstrap.servers": servers, "client.id": conf.broker_client_id, **self.client_config}

    def consumer_config(self) -> dict[str, Any]:
        """librdkafka's settings for the consumer, from Faust's."""
        conf = self.app.conf
        session_ms = round(conf.broker_session_timeout * 1000)
        optional = {"group.instance.id": conf.consumer_group_instance_id} if conf.consumer_group_instance_id else {}
        return {
            "group.id": conf.id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": conf.consumer_auto_offset_reset,
            "isolation.level": "read_committed",
            # Range gives one worker the same partition numbers of all topics of one size.
            "partition.assignment.strategy": "range",
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": round(conf.broker_heartbeat_interval * 1000),
            "max.poll.interval.ms": max(session_ms, round((conf.broker_max_poll_interval or 300.0) * 1000)),
            "check.crcs": conf.broker_check_crcs,
            "max.partition.fetch.bytes": conf.consumer_max_fetch_size,
            "queued.max.messages.kbytes": self.queued_kbytes_max,
            "fetch.queue.backoff.ms": FETCH_BACKOFF_MS,
            "fetch.wait.max.ms": self.fetch_wait_ms,
            "topic.metadata.refresh.interval.ms": conf.consumer_metadata_max_age_ms,
            **optional,
            **self.client_base_config(),
        }

    def producer_config(self) -> dict[str, Any]:
        """librdkafka's settings for the producer, from Faust's."""
        conf = self.app.conf
        return {
            "enable.idempotence": True,
            # librdkafka's own default hashes otherwise than Java and aiokafka do.
            "partitioner": "murmur2_random",
            "linger.ms": conf.producer_linger * 1000,
            "compression.type": conf.producer_compression_type or "none",
            "message.max.bytes": conf.producer_max_request_size,
            **self.client_base_config(),
        }


def _install_stream(app: AppT) -> None:
    # Streams are made by the app's settings, the only place where acknowledging can be put behind the agent's work.
    conf: Any = app.conf
    chosen = conf.Stream
    if chosen is faust.Stream:
        # Faust warns of settings that change after they were read; this one is read when the first agent starts.
        setattr(conf, type(conf).SETTINGS["Stream"].storage_name, BatchStream)
    elif not issubclass(chosen, BatchStream):
        raise ImproperlyConfigured(f"librdkafka:// needs streams derived from BatchStream, not {chosen!r}.")
