"""What became of the triggers that were to be delivered, and delivering them again by hand."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from tillstream.config import Config
from tillstream.endpoints import load_targets
from tillstream.errors import UsageError
from tillstream.schemas.deliveries import Delivery, decode_delivery
from tillstream.schemas.events import Malformed
from tillstream.schemas.offers import TriggeredEvent, decode_trigger
from tillstream.servers import check_kafka, failures_named, redis_of
from tillstream.sinks.delivery.target import Target
from tillstream.sinks.delivery.webhook import Poster
from tillstream.sinks.directory import Directory
from tillstream.streams.agreement import Agreement
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import DELIVERIES, TRIGGERS
from tillstream.tls import kafka_settings

AT_ONCE = 16
"""Deliveries by hand on their way at once."""

STATES = ("delivered", "waiting", "dead", "expired", "withdrawn")


class Sent(NamedTuple):
    """What came of one delivery by hand."""

    decision_id: str
    endpoint: str
    result: str
    reason: str


def status_of(config: Config) -> list[dict[str, Any]]:
    """By endpoint, the deliveries of the last seven days by their state, and of those that wait the next attempt and the latest reason.

    Raises:
        UsageError: Kafka is away.
    """
    check_kafka(config)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    latest: dict[str, dict[str, Any]] = defaultdict(dict)
    for delivery in standings(config).values():
        for name, parcel in delivery.parcels.items():
            counts[name][parcel.state] += 1
            told = latest[name]
            if parcel.reason:
                told["reason"] = parcel.reason
            if parcel.next_at is not None:
                told["next_at"] = min(told.get("next_at", parcel.next_at), parcel.next_at)
    return [
        {
            "endpoint": name,
            **{state: counts[name][state] for state in STATES},
            "next_at": latest[name]["next_at"].isoformat() if "next_at" in latest[name] else None,
            "reason": latest[name].get("reason"),
        }
        for name in sorted(counts)
    ]


def standings(config: Config) -> dict[str, Delivery]:
    """The last standing of each decision."""
    found: dict[str, Delivery] = {}
    with failures_named(config):
        for partition in range(config.partitions):
            for message in read_topic(kafka_settings(config), DELIVERIES, partition, 0):
                delivery = decode_delivery(message.value() or b"")
                found[delivery.decision_id] = delivery
    return found


def replay(config: Config, since: datetime | None, ids: frozenset[str], endpoint: str | None) -> list[Sent]:
    """Delivers triggers again, once and now: those since an instant, or of these decisions; to one endpoint, or all that want them.

    Raises:
        UsageError: there is no such endpoint, or Kafka is away.
    """
    targets = load_targets(config)
    if endpoint is not None and endpoint not in {target.endpoint.id for target in targets}:
        raise UsageError(f"--endpoint {endpoint}: {config.endpoints} has none of this id")
    check_kafka(config)
    wanted = [target for target in targets if endpoint in {None, target.endpoint.id}]
    with failures_named(config):
        found = {event.data.decision_id: (event, raw) for event, raw in triggers(config) if is_asked(event, since, ids)}
    return asyncio.run(send_to_willing(config, wanted, list(found.values())))


def is_asked(event: TriggeredEvent, since: datetime | None, ids: frozenset[str]) -> bool:
    """Whether a trigger is to be delivered again."""
    return event.data.decision_id in ids or (since is not None and event.time >= since)


def triggers(config: Config) -> Iterator[tuple[TriggeredEvent, bytes]]:
    """All triggers that the topic still has, with their bytes."""
    for partition in range(config.partitions):
        for message in read_topic(kafka_settings(config), TRIGGERS, partition, 0):
            raw = message.value() or b""
            try:
                yield decode_trigger(raw), raw
            except Malformed:  # It is a dead letter already.
                continue


async def send_to_willing(config: Config, targets: list[Target], found: list[tuple[TriggeredEvent, bytes]]) -> list[Sent]:
    """As `send_all`, with a connection to Redis."""
    async with redis_of(config) as client:
        return await send_all(targets, found, Agreement(Directory(client)), private=config.deliver_private)


async def send_all(
    targets: list[Target], found: list[tuple[TriggeredEvent, bytes]], agreement: Agreement, *, private: bool
) -> list[Sent]:
    """One attempt for each trigger and each endpoint that wants it; none where the offer has expired, or the member agrees no more."""
    poster, turns = Poster(private), asyncio.Semaphore(AT_ONCE)

    async def send(target: Target, event: TriggeredEvent, raw: bytes) -> Sent:
        name, decision_id = target.endpoint.id, event.data.decision_id
        async with turns:
            if event.data.expires_at <= datetime.now(UTC):
                return Sent(decision_id, name, "expired", "")
            standing = await agreement.of(event.data)
            if standing != "agrees":
                return Sent(decision_id, name, standing, "Redis does not say whether the member agrees" if standing == "unknown" else "")
            attempt = await target.sender.send(poster, decision_id, raw, int(time.time()))
            return Sent(decision_id, name, attempt.result, attempt.reason)

    try:
        pairs = [(target, event, raw) for event, raw in found for target in targets if target.wants(event.data)]
        return list(await asyncio.gather(*(send(*pair) for pair in pairs)))
    finally:
        await poster.close()


def show_status(rows: list[dict[str, Any]]) -> None:
    """The figures as a table."""
    table = Table("endpoint", *STATES, "next attempt", "latest reason")
    for row in rows:
        table.add_row(row["endpoint"], *(str(row[state]) for state in STATES), (row["next_at"] or "")[:19], row["reason"] or "")
    Console(highlight=False).print(table)
