"""`tillstream verify`: proves G4 on a live system (DESIGN.md §3).

Per partition the ledger is read from its beginning to its present end and summed up by itself, one entry after another, sharing no code
with the posting of receipts. Then it is compared:

    conservation   every balance = its entries = its lots - debt; every fully returned receipt sums to zero; a rule's line entries never
                   sum to more than its award (less is what a cap left of it, or a fault: telling them apart takes the program)
    Redis          every account's balance, against the ledger up to the offset that Redis says it has applied
    ClickHouse     every account's balance, against the ledger up to the offset that history has noted
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from tillstream.config import Config
from tillstream.kernels.holdings import Units, settle
from tillstream.schemas.ledger import Posting, decode_record, entries
from tillstream.sinks.archive import balances
from tillstream.sinks.redis import Redis
from tillstream.sinks.state import StateStore
from tillstream.streams.recovery import read_ledger
from tillstream.tls import kafka_settings

NOT_THE_RECEIPTS = frozenset({"expiry", "hold", "release", "adjustment"})
"""Kinds that a receipt's posting may hold and that are not among what it gave or took: they move points in time, or write them off."""

SHOWN_MAX = 20
"""Discrepancies that are listed; the rest are counted."""

Balances = Counter[tuple[str, str]]


class Finding(NamedTuple):
    """One thing that does not hold."""

    check: str
    where: str
    expected: int
    found: int


class LedgerSums:
    """The ledger's own account of itself, entry by entry; a record that stands twice counts once."""

    def __init__(self) -> None:
        self.balances: Balances = Counter()
        self.postings: set[str] = set()
        self.entries = 0
        self.sales: dict[str, tuple[int, int]] = {}
        self.left: dict[str, int] = {}
        self.bought: dict[str, int] = {}
        self.came_back: Counter[str] = Counter()
        self.findings: list[Finding] = []

    def add(self, raw: bytes) -> None:
        """Takes one ledger record."""
        posting = decode_record(raw)
        if not isinstance(posting, Posting) or posting.posting_id in self.postings:
            return
        self.postings.add(posting.posting_id)
        points = 0
        for entry in entries(posting):
            self.entries += 1
            self.balances[entry.account_id or "", entry.unit] += entry.points
            points += entry.points if entry.kind not in NOT_THE_RECEIPTS else 0
        self._check_awards(posting)
        if posting.kind == "sale":
            self.bought[posting.posting_id] = sum(posting.amount) + sum(posting.quantity_milli)
            self.left[posting.posting_id] = points
        elif posting.reverses_posting is not None:
            self.came_back[posting.reverses_posting] += sum(posting.amount) + sum(posting.quantity_milli)
            self.left[posting.reverses_posting] = self.left.get(posting.reverses_posting, 0) + points

    def _check_awards(self, posting: Posting) -> None:
        for group in posting.entries:
            total = sum(group.points)
            if group.kind == "accrual" and group.award is not None and total > group.award:
                self.findings.append(Finding("award", f"{posting.posting_id} {group.rule_id}", group.award, total))

    def conservation(self) -> Iterator[Finding]:
        """What does not add up within the ledger."""
        yield from self.findings
        for sale, bought in self.bought.items():
            if bought and self.came_back[sale] == bought and self.left[sale] != 0:
                yield Finding("a fully returned receipt", sale, 0, self.left[sale])


class Report(NamedTuple):
    """What was compared, and what does not hold."""

    postings: int
    entries: int
    accounts: int
    redis_accounts: int
    clickhouse_accounts: int | None
    findings: list[Finding]

    def as_json(self) -> dict[str, Any]:
        """The object that `verify --json` prints."""
        return {**self._asdict(), "findings": [finding._asdict() for finding in self.findings[:SHOWN_MAX]], "ok": not self.findings}


async def verify(config: Config, client: Redis, clickhouse: Client | None) -> Report:
    """Compares the whole system, also while it works; `clickhouse` None leaves history out."""
    total = Tally()
    for partition in range(config.partitions):
        await verify_partition(config, StateStore(client), clickhouse, partition, total)
    history = None if clickhouse is None else len(total.history_accounts)
    return Report(total.postings, total.entries, len(total.accounts), total.redis_accounts, history, total.findings)


class Tally:
    """What the partitions came to so far."""

    def __init__(self) -> None:
        self.postings = self.entries = self.redis_accounts = 0
        self.accounts: set[str] = set()
        self.history_accounts: set[str] = set()
        self.findings: list[Finding] = []


async def verify_partition(config: Config, state: StateStore, clickhouse: Client | None, partition: int, total: Tally) -> None:
    """One partition. It may be written to meanwhile, so every account is compared at an offset at which its balance is known:

    (1) where Redis stands; (2) all accounts; (3) where Redis stands now; (4) the accounts touched between (1) and (3) once more, together
    with where Redis stands then. Untouched accounts are compared at (3), touched ones at (4), ClickHouse at what history has noted.
    """
    before = (await state.standing(partition)).ledger  # (1)
    held = {name: units async for name, units in state.accounts(partition)}  # (2)
    standing = await state.standing(partition)  # (3)
    written = await state.history(partition)
    touched = touched_accounts(config, partition, before, standing.ledger)
    until, again = await state.accounts_at(partition, sorted(touched))  # (4)
    at_redis, at_touched, at_history = LedgerSums(), LedgerSums(), LedgerSums()
    for message in read_ledger(kafka_settings(config), partition, 0):
        for sums, last in ((at_redis, standing.ledger), (at_touched, until), (at_history, written)):
            if (message.offset() or 0) <= last:
                sums.add(message.value() or b"")
    expected = Counter({key: at_touched.balances[key] for key in at_touched.balances if key[0] in touched})
    expected.update({key: points for key, points in at_redis.balances.items() if key[0] not in touched})
    held = {**held, **again}
    total.findings += at_redis.conservation()
    total.findings += uneven(held, standing.as_of)
    total.findings += differences("redis", expected, balances_of(held))
    if clickhouse is not None:
        there = balances(clickhouse, partition, written) if written >= 0 else iter(())
        found = Counter({(account, unit): points for account, unit, points in there})
        total.findings += differences("clickhouse", at_history.balances, found)
        total.history_accounts |= {account for account, _ in found}
    total.postings += len(at_redis.postings)
    total.entries += at_redis.entries
    total.redis_accounts += len(held)
    total.accounts |= {account for account, _ in at_redis.balances}


def touched_accounts(config: Config, partition: int, first: int, last: int) -> set[str]:
    """The accounts of the ledger records behind `first` up to `last`."""
    touched = set()
    if last > first:
        for message in read_ledger(kafka_settings(config), partition, first + 1):
            record = decode_record(message.value() or b"")
            if (message.offset() or 0) <= last and isinstance(record, Posting) and record.account_id is not None:
                touched.add(record.account_id)
    return touched


def balances_of(accounts: Mapping[str, Units]) -> Balances:
    """Balances by account and unit."""
    return Counter({(name, unit): holding.balance for name, units in accounts.items() for unit, holding in units.items()})


def uneven(accounts: Mapping[str, Units], as_of: str | None) -> Iterator[Finding]:
    """Balances that are not their lots less their debt."""
    for name, units in accounts.items():
        for unit, holding in units.items():
            settled = settle(holding, as_of)
            lots = sum(settled.lots.values()) - settled.debt
            if lots != holding.balance:
                yield Finding("lots - debt", f"{name} {unit}", holding.balance, lots)


def differences(check: str, expected: Balances, found: Balances) -> Iterator[Finding]:
    """Accounts whose balances are not the ledger's."""
    for key in sorted(expected.keys() | found.keys()):
        if expected[key] != found[key]:
            yield Finding(check, " ".join(key), expected[key], found[key])
