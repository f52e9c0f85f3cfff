"""The configured servers: whether they answer, and are fit for this installation; every failure is one line that names the setting."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from redis.exceptions import RedisError

from tillstream.config import Config
from tillstream.errors import UnreachableError, UsageError
from tillstream.sinks.clickhouse import MigrationChanged, Unreachable, migrate
from tillstream.sinks.clickhouse import connect as connect_clickhouse
from tillstream.sinks.redis import LibraryMismatch, Redis, RedisUnreachable, connect, load_library
from tillstream.streams.topics import BrokerUnreachable, TopicsUnfit, ensure_topics, partition_counts, topic_specs
from tillstream.tls import check_authorities, kafka_security, kafka_settings

REASON_CHARS_MAX = 200
"""The driver quotes whole queries in its errors; a person needs the first line."""

IDENTITY_KEY_MIN = 16
IDENTITY_KEY_MAX = 64


def check_servers(config: Config, role: str) -> None:
    """Topics, function library and migrations are there when this returns.

    Raises:
        UnreachableError: a server does not answer; names its address and setting.
        UsageError: a server is not fit for this installation.
    """
    check_authorities(config)
    try:
        ensure_topics(config.kafka, config.partitions, config.replication, kafka_security(config))
    except BrokerUnreachable as error:
        raise UnreachableError("Kafka", error.address, "kafka") from None
    except TopicsUnfit as error:
        raise UsageError(str(error)) from None
    asyncio.run(answers(redis_of(config)))
    if role == "history":
        try:
            migrate(clickhouse_of(config))
        except MigrationChanged as error:
            raise UsageError(str(error)) from None


async def answers(connection: AbstractAsyncContextManager[Redis]) -> None:
    """Opens a connection and closes it: what can be wrong with it has shown then."""
    async with connection:
        pass


def check_identity_key(config: Config) -> None:
    """Raises UsageError where `identity_key` is missing or of the wrong length."""
    size = len(config.identity_key.encode())
    if not IDENTITY_KEY_MIN <= size <= IDENTITY_KEY_MAX:
        raise UsageError(
            f"identity_key: {size} bytes, needs {IDENTITY_KEY_MIN} to {IDENTITY_KEY_MAX}; set TILLSTREAM_IDENTITY_KEY to a secret "
            "that never changes"
        )


@asynccontextmanager
async def redis_of(config: Config) -> AsyncIterator[Redis]:
    """A connection to Redis that is known to answer.

    Raises:
        UnreachableError: it does not.
        UsageError: the setting is no URL, or a newer tillstream owns this Redis.
    """
    try:
        client = connect(config.redis, ca=config.redis_ca)
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
        return connect_clickhouse(config.clickhouse, config.clickhouse_ca)
    except Unreachable as error:
        raise UnreachableError("ClickHouse", error.address, "clickhouse") from None


def check_kafka(config: Config) -> None:
    """The installation's topics are there, with as many partitions as configured.

    Raises:
        UnreachableError: Kafka does not answer.
        UsageError: a topic is missing or has another number of partitions.
    """
    try:
        there = partition_counts(AdminClient({**kafka_settings(config), "log_level": 0}), config.kafka)
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
