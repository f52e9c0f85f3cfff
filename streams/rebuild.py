"""Redis from Kafka, from nothing: balances from the ledger, claims from `transactions`, identities from `members`, parked returns (G5)."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from tillstream.kernels.keys import sale_key_of
from tillstream.schemas.events import ROUTED_BYTES_MAX, EnrolledEvent, IdentityAddedEvent, Malformed, SaleEvent, decode
from tillstream.sinks.directory import Claiming, Directory, Parking
from tillstream.sinks.redis import Redis
from tillstream.sinks.state import StateStore, tag
from tillstream.streams.enrol import identities_of
from tillstream.streams.recovery import Recovery, read_topic
from tillstream.streams.topics import MEMBERS, PARKED, TRANSACTIONS

ROWS_MAX = 2_000
"""Records per round trip."""

DELETE_MAX = 500


async def rebuild(client: Redis, kafka: Mapping[str, Any], partitions: int, identity_key: str) -> dict[str, int]:
    """Empties our keys and fills them again; the number of accounts, ledger records and claims."""
    await empty(client, partitions)
    state, directory = StateStore(client), Directory(client)
    members = await enrol_all(directory, kafka, identity_key)
    claims = sum([await claim_all(directory, kafka, partition) for partition in range(partitions)])
    await park_all(directory, kafka)
    recovery = Recovery(state, kafka)
    for partition in range(partitions):
        await recovery.recover(partition)
    accounts = sum([await client.hlen(f"{tag(partition)}:accounts") for partition in range(partitions)])
    records = sum([await client.hlen(f"{tag(partition)}:postings") for partition in range(partitions)])
    return {"accounts": accounts, "records": records, "claims": claims, "identities": members}


async def empty(client: Redis, partitions: int) -> None:
    """Deletes our keys and no others."""
    ours = ["{i*}:identities", "{r*}:claims", "{r*}:parked*", "{r*}:horizon"]
    for pattern in [*(f"{tag(partition)}:*" for partition in range(partitions)), *ours]:
        async for key in client.scan_iter(match=pattern, count=DELETE_MAX):
            await client.unlink(key)


async def enrol_all(directory: Directory, kafka: Mapping[str, Any], identity_key: str) -> int:
    """The identity index from `members`."""
    enrolled = 0
    for rows in batches(read_topic(kafka, MEMBERS, 0, 0)):
        identities: dict[str, str] = {}
        for raw in rows:
            if isinstance(decode(raw), EnrolledEvent | IdentityAddedEvent):
                identities |= identities_of(raw, identity_key)
        await directory.enrol(identities)
        enrolled += len(identities)
    return enrolled


async def claim_all(directory: Directory, kafka: Mapping[str, Any], partition: int) -> int:
    """The claims of sales, as `transactions` shows where they went."""
    claims = 0
    for rows in batches(read_topic(kafka, TRANSACTIONS, partition, 0)):
        sales: dict[str, Claiming] = {}
        for raw in rows:
            event = decode(raw, ROUTED_BYTES_MAX)
            if isinstance(event, SaleEvent):
                sales.setdefault(sale_key_of(event), Claiming(event.accountid or "", date.max))
        await directory.claim(sales)
        claims += len(sales)
    return claims


async def park_all(directory: Directory, kafka: Mapping[str, Any]) -> None:
    """Returns whose sale is not known; the records of those that have gone on are tombstones."""
    parked: dict[str, bytes] = {}
    for message in read_topic(kafka, PARKED, 0, 0):
        key, value = (message.key() or b"").decode(), message.value()
        if value is None:
            parked.pop(key, None)
        else:
            parked[key] = value
    await directory.find_or_park(Parking(*key.split("/"), event) for key, event in parked.items())


def batches(messages: Iterator[Any]) -> Iterator[list[bytes]]:
    """Values that are events, some at a time."""
    rows: list[bytes] = []
    for message in messages:
        raw = message.value()
        if raw and is_event(raw):
            rows.append(raw)
        if len(rows) >= ROWS_MAX:
            yield rows
            rows = []
    if rows:
        yield rows


def is_event(raw: bytes) -> bool:
    """What is none is in `deadletter` already."""
    try:
        decode(raw, ROUTED_BYTES_MAX)
    except Malformed:
        return False
    return True

