"""What an operator runs against a live installation: the proof, and the rebuilding of Redis."""

import time
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tillstream.config import Config
from tillstream.errors import UsageError
from tillstream.kernels.identities import Seal
from tillstream.progress import group_consumer
from tillstream.servers import check_identity_key, check_kafka, clickhouse_of, failures_named, redis_of
from tillstream.sinks.redis import Redis
from tillstream.sinks.replies import Replies
from tillstream.sinks.state import StateStore
from tillstream.sinks.vouchers import VoucherStore
from tillstream.streams.rebuild import rebuild
from tillstream.streams.topics import LEDGER
from tillstream.streams.vouchers import VoucherView
from tillstream.tls import kafka_settings
from tillstream.verify import Report, verify

ANSWER_S = 10.0
"""Kafka tells a group's members at once; a broker that is starting may take a while."""


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
            seal = Seal(config.identity_key.encode(), config.phone_region)
            counts = await rebuild(client, kafka_settings(config), config.partitions, seal)
            await note_history(config, client)
            await VoucherView(VoucherStore(client), kafka_settings(config), Replies(client)).catch_up()
    return {**counts, "seconds": round(time.monotonic() - started, 2)}


async def note_history(config: Config, client: Redis) -> None:
    """Notes in Redis how far ClickHouse has the ledger, as history's consumer group tells it.

    Without, Redis would let nothing go and `verify` would leave ClickHouse out, until history has written to each partition again.
    """
    state, consumer = StateStore(client), group_consumer(config, "tillstream-history")
    try:
        places = [TopicPartition(LEDGER, partition) for partition in range(config.partitions)]
        for place in consumer.committed(places, timeout=ANSWER_S):
            if place.offset > 0:
                await state.note_history(place.partition, place.offset - 1)
    finally:
        consumer.close()


def check_no_workers(config: Config) -> None:
    """Raises UsageError where a worker of the group that gives points is running."""
    admin = AdminClient({**kafka_settings(config), "log_level": 0})
    try:
        group = admin.describe_consumer_groups(["tillstream-points"], request_timeout=ANSWER_S)["tillstream-points"].result(ANSWER_S)
    except KafkaException:
        return
    if group.members:
        raise UsageError(f"{len(group.members)} workers are running; stop them first, a rebuild needs the partitions for itself")
