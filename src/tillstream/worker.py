"""One Faust worker against the configured servers, until SIGTERM or Ctrl-C."""

import asyncio
import gc
import logging
from typing import Literal, get_args

import faust

from tillstream.config import Config, load_program
from tillstream.errors import UnreachableError, UsageError
from tillstream.sinks.clickhouse import MigrationChanged, Unreachable, connect, migrate
from tillstream.sinks.redis import LibraryMismatch, RedisUnreachable, load_library
from tillstream.sinks.redis import connect as connect_redis
from tillstream.streams.app import create_app
from tillstream.streams.runtime import WorkerSettings
from tillstream.streams.topics import BrokerUnreachable, TopicsUnfit, ensure_topics

Role = Literal["points", "history"]
ROLES = get_args(Role)

COLLECT_EVERY = 200_000
"""Allocations between two collections: some ten batches."""

IDENTITY_KEY_MIN = 16
IDENTITY_KEY_MAX = 64


def check_servers(config: Config, role: Role) -> None:
    """Topics, function library and migrations are there when this returns.

    Raises:
        UnreachableError: a server does not answer; names its address and setting.
        UsageError: a server is not fit for this installation.
    """
    try:
        ensure_topics(config.kafka, config.partitions, config.replication)
    except BrokerUnreachable as error:
        raise UnreachableError("Kafka", error.address, "kafka") from None
    except TopicsUnfit as error:
        raise UsageError(str(error)) from None
    asyncio.run(check_redis(config.redis))
    if role == "history":
        try:
            migrate(connect(config.clickhouse))
        except Unreachable as error:
            raise UnreachableError("ClickHouse", error.address, "clickhouse") from None
        except MigrationChanged as error:
            raise UsageError(str(error)) from None


def spare_the_collector() -> None:
    """A batch is tens of thousands of objects without cycles, freed by their counts; searching them took a third of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 50, 100)


async def check_redis(url: str) -> None:
    """Loads the function library.

    Raises:
        UnreachableError, UsageError: as `check_servers`.
    """
    try:
        client = connect_redis(url)
    except ValueError as error:
        raise UsageError(f"redis: {error}") from None
    try:
        await load_library(client, url)
    except RedisUnreachable as error:
        raise UnreachableError("Redis", error.address, "redis") from None
    except LibraryMismatch as error:
        raise UsageError(str(error)) from None
    finally:
        await client.aclose()


def check_identity_key(config: Config) -> None:
    """Raises UsageError where `identity_key` is missing or of the wrong length."""
    size = len(config.identity_key.encode())
    if not IDENTITY_KEY_MIN <= size <= IDENTITY_KEY_MAX:
        raise UsageError(
            f"identity_key: {size} bytes, needs {IDENTITY_KEY_MIN} to {IDENTITY_KEY_MAX}; set TILLSTREAM_IDENTITY_KEY to a secret "
            "that never changes"
        )


def worker_settings(config: Config) -> WorkerSettings:
    """The worker's part of the configuration.

    Raises:
        UsageError: `identity_key` is missing or of the wrong length.
    """
    check_identity_key(config)
    return WorkerSettings(**{name: getattr(config, name) for name in WorkerSettings.__struct_fields__})


def run_worker(config: Config, role: Role) -> None:
    """Checks the servers, then works until it is told to stop."""
    program = load_program(config.program)
    settings = worker_settings(config)
    check_servers(config, role)
    logging.getLogger("faust").setLevel(config.log_level.upper())
    app = create_app(settings, program, role)
    spare_the_collector()
    faust.Worker(app, loglevel=config.log_level.upper(), redirect_stdouts=False).execute_from_commandline()
