"""Faust's producer on librdkafka, for what applications send through Faust.

In: `topic.send(...)` and topic declarations. Out: records, and a future per record that ends with its delivery report.
Hot-path agents have their own producer; this one serves timers, tests and deadletters.

The producer is idempotent and partitions as Java and aiokafka do (murmur2), so that all producers agree on a partition.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiokafka.partitioner import murmur2  # type: ignore[import-untyped]
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as KafkaProducer
from confluent_kafka.admin import AdminClient, NewTopic
from faust.exceptions import ProducerSendError
from faust.transport import producer as faust_producer
from faust.types import TP, HeadersArg, RecordMetadata
from mode.utils.times import Seconds, want_seconds

if TYPE_CHECKING:
    from tillstream.streams.transport import Transport

# How long the report thread waits inside librdkafka; reports arrive at once, this only bounds its stop.
POLL_S = 0.1
# A full queue empties within a linger and a round trip; then the sender tries again.
QUEUE_FULL_PAUSE_S = 0.01
# Above librdkafka's delivery.timeout.ms (120 s by default) every record is delivered or failed.
FLUSH_S = 125.0
# Metadata is answered from the brokers' memory.
METADATA_S = 10.0


class BatchProducer(faust_producer.Producer):
    """The producer of `librdkafka://`."""

    transport: Transport

    def __post_init__(self) -> None:
        self._kafka: KafkaProducer | None = None
        # One for the producer's whole life: librdkafka aborts the process when the last reference to an admin client is
        # dropped in its own callback thread, which the traceback of a failed call does when it holds the client.
        self._admin: AdminClient | None = None
        self._reports: threading.Thread | None = None
        self._ending = threading.Event()

    async def on_start(self) -> None:
        """Connect, and start the thread that fetches delivery reports."""
        await super().on_start()
        self._ending.clear()
        self._loop_here = asyncio.get_running_loop()
        self._kafka = KafkaProducer({**self.transport.producer_config(), "error_cb": self._on_error})
        self._reports = threading.Thread(target=self._poll_reports, name="tillstream-producer", daemon=True)
        self._reports.start()

    async def on_stop(self) -> None:
        """Deliver what is queued; end the thread."""
        await self._flush_queue()
        self._ending.set()
        if self._reports is not None:
            await asyncio.to_thread(self._reports.join)
        self._kafka = None

    def _poll_reports(self) -> None:
        kafka = self._running()
        while not self._ending.is_set():
            kafka.poll(POLL_S)

    def _running(self) -> KafkaProducer:
        if self._kafka is None:
            raise ProducerSendError("The producer is not running.")
        return self._kafka

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            asyncio.run_coroutine_threadsafe(self.crash(KafkaException(error)), self._loop_here)
        else:
            self.log.warning("Kafka reports %s; going on.", error)

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: HeadersArg | None,
        *,
        transactional_id: str | None = None,
    ) -> Awaitable[RecordMetadata]:
        """Queue a record (`timestamp` in seconds); the future ends when the brokers have it, or with the error."""
        future: asyncio.Future[RecordMetadata] = self._loop_here.create_future()
        optional: dict[str, Any] = {}
        if partition is not None:
            optional["partition"] = partition
        if timestamp:
            optional["timestamp"] = round(timestamp * 1000)
        if headers:
            optional["headers"] = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        while True:
            try:
                self._running().produce(topic, value, key, on_delivery=self._reporter(future), **optional)
                return future
            except BufferError:
                await asyncio.sleep(QUEUE_FULL_PAUSE_S)
            except KafkaException as reason:
                raise ProducerSendError(f"{topic}: {reason}") from reason

    def _reporter(self, future: asyncio.Future[RecordMetadata]) -> Callable[[KafkaError | None, Any], None]:
        def report(error: KafkaError | None, message: Any) -> None:
            # Runs in the report thread.
            self._loop_here.call_soon_threadsafe(_finish, future, error, message)

        return report

    async def send_and_wait(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: HeadersArg | None,
        *,
        transactional_id: str | None = None,
    ) -> RecordMetadata:
        """Send a record and wait for the brokers to have it."""
        return await (await self.send(topic, key, value, partition, timestamp, headers))

    async def flush(self) -> None:
        """Wait until everything sent so far is delivered or failed."""
        await self.buffer.flush()
        await self._flush_queue()

    async def _flush_queue(self) -> None:
        if self._kafka is not None and len(self._kafka):
            await asyncio.to_thread(self._kafka.flush, FLUSH_S)

    def key_partition(self, topic: str, key: bytes) -> TP:
        """The partition that a record with `key` goes to."""
        partitions = self._running().list_topics(topic, METADATA_S).topics[topic].partitions
        return TP(topic, (murmur2(key) & 0x7FFFFFFF) % len(partitions))

    def supports_headers(self) -> bool:
        """True."""
        return True

    async def create_topic(
        self,
        topic: str,
        partitions: int,
        replication: int,
        *,
        config: Mapping[str, Any] | None = None,
        timeout: Seconds = 30.0,  # noqa: ASYNC109 (the signature is Faust's)
        retention: Seconds | None = None,
        compacting: bool | None = None,
        deleting: bool | None = None,
        ensure_created: bool = False,
    ) -> None:
        """Create a topic, unless it exists; `timeout` and `retention` in seconds."""
        settings = {name: str(setting) for name, setting in (config or {}).items()}
        policy = [word for word, wanted in (("compact", compacting), ("delete", deleting)) if wanted]
        if policy:
            settings["cleanup.policy"] = ",".join(policy)
        if retention:
            settings["retention.ms"] = str(round(want_seconds(retention) * 1000))
        if self._admin is None:
            self._admin = AdminClient(self.transport.client_base_config())
        new = NewTopic(topic, num_partitions=partitions, replication_factor=replication, config=settings)
        try:
            await asyncio.wrap_future(self._admin.create_topics([new], request_timeout=want_seconds(timeout))[topic])
        except KafkaException as reason:
            if reason.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def _finish(future: asyncio.Future[RecordMetadata], error: KafkaError | None, message: Any) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(ProducerSendError(f"{message.topic()}: {error}"))
        return
    tp = TP(message.topic(), message.partition())
    kind, timestamp_ms = message.timestamp()
    future.set_result(RecordMetadata(tp.topic, tp.partition, tp, message.offset(), timestamp_ms / 1000.0, kind))
