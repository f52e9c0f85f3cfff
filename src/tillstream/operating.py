"""What an operator runs against a live installation: the proof, and the rebuilding of Redis."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from redis.exceptions import RedisError

from tillstream.config import Config
from tillstream.errors import UnreachableError, UsageError
from tillstream.progress import group_consumer
from tillstream.sinks.clickhouse import Unreachable
from tillstream.sinks.clickhouse import connect as connect_clickhouse
from tillstream.sinks.redis import LibraryMismatch, Redis, RedisUnreachable, connect, load_library
from tillstream.sinks.state import StateStore
from tillstream.streams.rebuild import rebuild
from tillstream.streams.topics import LEDGER, BrokerUnreachable, partition_counts, topic_specs
from tillstream.verify import Report, verify
from tillstream.worker import check_identity_key

ANSWER_S = 10.0
"""Kafka tells a group's members at once; a broker that is starting may take a while."""

REASON_CHARS_MAX = 200
"""The driver quotes whole queries in its errors; a person needs the first line."""


@asynccontextmanager
async def redis_of(config: Config) -> AsyncIterator[Redis]:
    """A connection to Redis that is known to answer.

    Raises:
        UnreachableError: it does not.
        UsageError: the setting is no URL, or a newer tillstream owns this Redis.
    """
    try:
        client = connect(config.redis)
    except ValueError as error:
        raise UsageError(f"redis: {error}") from None
    try:
        await load_library(client, config.redis)
        yield client
    except RedisUnreachable as error:
        raise UnreachableError("Redis", error.address, "redis") from None
    except LibraryMismatch as error:
        raise UsageError(str(error)) from None
    finally:
        await client.aclose()


def clickhouse_of(config: Config) -> Client:
    """A connection to ClickHouse.

    Raises:
        UnreachableError: it does not answer.
    """
    try:
        return connect_clickhouse(config.clickhouse)
    except Unreachable as error:
        raise UnreachableError("ClickHouse", error.address, "clickhouse") from None


def check_kafka(config: Config) -> None:
    """The installation's topics are there, with as many partitions as configured.

    Raises:
        UnreachableError: Kafka does not answer.
        UsageError: a topic is missing or has another number of partitions.
    """
    try:
        there = partition_counts(AdminClient({"bootstrap.servers": config.kafka, "log_level": 0}), config.kafka)
    except BrokerUnreachable as error:
        raise UnreachableError("Kafka", error.address, "kafka") from None
    for spec in topic_specs(config.partitions):
        count = there.get(spec.name)
        if count is None:
            raise UsageError(f"Kafka at {config.kafka} has no topic {spec.name}; the first worker creates it: start one")
        if count != spec.partitions:
            raise UsageError(f"topic {spec.name} has {count} partitions, the setting partitions leads to {spec.partitions}; correct it")


@contextmanager
def failures_named(config: Config) -> Iterator[None]:
    """A server that fails in the middle of the work is named, in one line."""
    try:
        yield
    except KafkaException as error:
        raise UsageError(f"Kafka at {config.kafka} failed (setting kafka): {error.args[0].str()}") from None
    except RedisError as error:
        raise UsageError(f"Redis at {config.redis} failed (setting redis): {error}") from None
    except ClickHouseError as error:
        reason = str(error).partition("\n")[0][:REASON_CHARS_MAX]
        raise UsageError(f"ClickHouse at {config.clickhouse} failed (setting clickhouse): {reason}") from None


async def verify_system(config: Config, *, history: bool) -> Report:
    """The proof of G4; `history` says whether ClickHouse is compared as well."""
    check_kafka(config)
    async with redis_of(config) as client:
        clickhouse = clickhouse_of(config) if history else None
        with failures_named(config):
            return await verify(config, client, clickhouse)


async def rebuild_redis(config: Config) -> dict[str, Any]:
    """Empties our keys and rebuilds them from Kafka.

    Raises:
        UsageError: a worker is running; or the settings are not the installation's, so that what is rebuilt would be wrong.
    """
    check_identity_key(config)
    check_kafka(config)
    check_no_workers(config)
    started = time.monotonic()
    async with redis_of(config) as client:
        with failures_named(config):
            counts = await rebuild(client, {"bootstrap.servers": config.kafka}, config.partitions, config.identity_key)
            await note_history(config, client)
    return {**counts, "seconds": round(time.monotonic() - started, 2)}


async def note_history(config: Config, client: Redis) -> None:
    """Notes in Redis how far ClickHouse has the ledger, as history's consumer group tells it.

    Without, Redis would let nothing go and `verify` would leave ClickHouse out, until history has written to each partition again.
    """
    state, consumer = StateStore(client), group_consumer(config.kafka, "tillstream-history")
    try:
        places = [TopicPartition(LEDGER, partition) for partition in range(config.partitions)]
        for place in consumer.committed(places, timeout=ANSWER_S):
            if place.offset > 0:
                await state.note_history(place.partition, place.offset - 1)
    finally:
        consumer.close()


def check_no_workers(config: Config) -> None:
    """Raises UsageError where a worker of the group that gives points is running."""
    admin = AdminClient({"bootstrap.servers": config.kafka, "log_level": 0})
    try:
        group = admin.describe_consumer_groups(["tillstream-points"], request_timeout=ANSWER_S)["tillstream-points"].result(ANSWER_S)
    except KafkaException:
        return
    if group.members:
        raise UsageError(f"{len(group.members)} workers are running; stop them first, a rebuild needs the partitions for itself")
