"""What an operator runs against a live installation: the proof, and the rebuilding of Redis."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from clickhouse_connect.driver.client import Client
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tillstream.config import Config
from tillstream.errors import UnreachableError, UsageError
from tillstream.sinks.clickhouse import Unreachable
from tillstream.sinks.clickhouse import connect as connect_clickhouse
from tillstream.sinks.redis import Redis, RedisUnreachable, connect, load_library
from tillstream.streams.rebuild import rebuild
from tillstream.streams.topics import BrokerUnreachable, partition_counts
from tillstream.verify import Report, verify

ANSWER_S = 10.0


@asynccontextmanager
async def redis_of(config: Config) -> AsyncIterator[Redis]:
    """A connection to Redis that is known to answer.

    Raises:
        UnreachableError: it does not.
    """
    client = connect(config.redis)
    try:
        await load_library(client, config.redis)
        yield client
    except RedisUnreachable as error:
        raise UnreachableError("Redis", error.address, "redis") from None
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
    """Raises UnreachableError where Kafka does not answer."""
    try:
        partition_counts(AdminClient({"bootstrap.servers": config.kafka, "log_level": 0}), config.kafka)
    except BrokerUnreachable as error:
        raise UnreachableError("Kafka", error.address, "kafka") from None


async def verify_system(config: Config, *, history: bool) -> Report:
    """The proof of G4; `history` says whether ClickHouse is compared as well."""
    check_kafka(config)
    async with redis_of(config) as client:
        return await verify(config, client, clickhouse_of(config) if history else None)


async def rebuild_redis(config: Config) -> dict[str, Any]:
    """Empties our keys and rebuilds them from Kafka.

    Raises:
        UsageError: a worker is running.
    """
    check_kafka(config)
    check_no_workers(config)
    started = time.monotonic()
    async with redis_of(config) as client:
        counts = await rebuild(client, {"bootstrap.servers": config.kafka}, config.partitions, config.identity_key)
    return {**counts, "seconds": round(time.monotonic() - started, 2)}


def check_no_workers(config: Config) -> None:
    """Raises UsageError where a worker of the group that gives points is running."""
    admin = AdminClient({"bootstrap.servers": config.kafka, "log_level": 0})
    try:
        group = admin.describe_consumer_groups(["tillstream-points"], request_timeout=ANSWER_S)["tillstream-points"].result(ANSWER_S)
    except KafkaException:
        return
    if group.members:
        raise UsageError(f"{len(group.members)} workers are running; stop them first, a rebuild needs the partitions for itself")
