"""Redis from Kafka, from nothing: balances from `ledger`, claims from `transactions`, the registry from `members`, parked returns (G5)."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import date
from itertools import islice
from typing import Any

from confluent_kafka import Message

from tillstream.kernels.facts import Fact, index
from tillstream.kernels.identities import Seal
from tillstream.kernels.keys import sale_key_of
from tillstream.schemas.events import ROUTED_BYTES_MAX, Malformed, decode
from tillstream.schemas.ledger import Posting, decode_record
from tillstream.sinks.budgets import BudgetStore
from tillstream.sinks.directory import MEMBERS_KEY, Claiming, Directory, Parking
from tillstream.sinks.offers import FILLED
from tillstream.sinks.redis import Redis
from tillstream.sinks.registry import KEYS
from tillstream.sinks.state import StateStore, tag
from tillstream.streams.enrol import said_in
from tillstream.streams.identify import CLAIMED
from tillstream.streams.recovery import Recovery, read_topic
from tillstream.streams.topics import LEDGER, MEMBERS, PARKED, TRANSACTIONS

ROWS_MAX = 2_000
"""Records per round trip."""

DELETE_MAX = 500


async def rebuild(client: Redis, kafka: Mapping[str, Any], partitions: int, seal: Seal) -> dict[str, int]:
    """Empties our keys and fills them again; the number of accounts, ledger records, claims and identities."""
    await empty(client, partitions)
    state = StateStore(client)
    counts = await restore_directory(Directory(client), kafka, partitions, seal)
    recovery = Recovery(state, kafka)
    for partition in range(partitions):
        await recovery.recover(partition)
        await BudgetStore(client).restore(partition)
    accounts = sum([await client.hlen(f"{tag(partition)}:accounts") for partition in range(partitions)])
    records = sum([await client.hlen(f"{tag(partition)}:postings") for partition in range(partitions)])
    return {"accounts": accounts, "records": records, **counts}


async def restore_directory(directory: Directory, kafka: Mapping[str, Any], partitions: int, seal: Seal) -> dict[str, int]:
    """The registry, claims and parked returns; a worker that finds none of them does it before it takes any record."""
    identities = await enrol_all(directory, kafka, seal)
    claims = sum([await claim_all(directory, kafka, partition, 0) for partition in range(partitions)])
    await park_all(directory, kafka)
    # The agent takes `members` from its beginning once more, which changes nothing: it may have grown since.
    await directory.note_members(-1)
    return {"claims": claims, "identities": identities}


async def restore_budgets(budgets: BudgetStore, kafka: Mapping[str, Any], partitions: int) -> None:
    """What rules took from their budgets, of all partitions at once: a worker that finds Redis emptied gives nothing before it knows."""
    for partition in range(partitions):
        given: Counter[str] = Counter()
        async for message in in_thread(read_topic(kafka, LEDGER, partition, 0)):
            record = decode_record(message.value() or b"")
            if isinstance(record, Posting):
                given.update(record.budgets)
        await budgets.restore_to(partition, given)


async def empty(client: Redis, partitions: int) -> None:
    """Deletes our keys and no others; with the budgets of offers goes the mark by which a worker takes them for whole."""
    identities = [MEMBERS_KEY, *(key.replace("7", "*") for key in KEYS)]
    ours = [*identities, "{r*}:claims", "{r*}:parked*", "{r*}:horizon", "{b}:*", FILLED, "{vouchers}:*"]
    for pattern in [*(f"{tag(partition)}:*" for partition in range(partitions)), *ours]:
        async for key in client.scan_iter(match=pattern, count=DELETE_MAX):
            await client.unlink(key)


async def enrol_all(directory: Directory, kafka: Mapping[str, Any], seal: Seal) -> int:
    """The registry from `members`; the number of identities that it knows."""
    identities: set[str] = set()
    messages = in_thread(read_topic(kafka, MEMBERS, 0, 0))
    while facts := [fact async for fact in some_facts(messages, seal)]:
        await directory.registry.note(facts)
        identities |= {entry.subject for member, fact in facts for entry in index(member, fact) if entry.name == "identities"}
    return len(await directory.registry.facts("identities", identities))


async def some_facts(messages: AsyncIterator[Message], seal: Seal) -> AsyncIterator[tuple[str, Fact]]:
    """Facts by member, of the next `ROWS_MAX` messages that say any; what is no member event is in `deadletter` already."""
    rows = 0
    async for message in messages:
        try:
            said = said_in(message.value() or b"", seal)
        except Malformed:
            continue
        for fact in said.facts:
            yield said.member, fact
        rows += 1
        if rows == ROWS_MAX:
            return


async def claim_all(directory: Directory, kafka: Mapping[str, Any], partition: int, first: int) -> int:
    """The claims of sales and of what spends points, as `transactions` shows from offset `first` on where they went."""
    claims = 0
    async for rows in batches(read_topic(kafka, TRANSACTIONS, partition, first)):
        sales: dict[str, Claiming] = {}
        for raw in rows:
            event = decode(raw, ROUTED_BYTES_MAX)
            if isinstance(event, CLAIMED):
                sales.setdefault(sale_key_of(event), Claiming(event.accountid or "", date.max))
        await directory.claim(sales)
        claims += len(sales)
    return claims


async def park_all(directory: Directory, kafka: Mapping[str, Any]) -> None:
    """Returns whose sale is not known; the records of those that have gone on are tombstones."""
    parked: dict[str, bytes] = {}
    async for message in in_thread(read_topic(kafka, PARKED, 0, 0)):
        key, value = (message.key() or b"").decode(), message.value()
        if value is None:
            parked.pop(key, None)
        else:
            parked[key] = value
    parkings = [(key.partition("/"), event) for key, event in parked.items()]
    await directory.find_or_park(Parking(sale, key, event) for (sale, _, key), event in parkings)


async def in_thread(messages: Iterator[Message]) -> AsyncIterator[Message]:
    """Reads in a thread, some at a time: the event loop has a rebalance to see to."""
    while some := await asyncio.to_thread(lambda: list(islice(messages, ROWS_MAX))):
        for message in some:
            yield message


async def batches(messages: Iterator[Message]) -> AsyncIterator[list[bytes]]:
    """Values that are events, some at a time."""
    rows: list[bytes] = []
    async for message in in_thread(messages):
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

