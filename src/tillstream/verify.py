"""`tillstream verify`: proves G4 on a live system (DESIGN.md §3).

Per partition the ledger is read from its beginning to its present end and summed up by itself, one entry after another, sharing no code
with the posting of receipts. Then it is compared:

    conservation   every balance = its entries = its lots - debt; every fully returned receipt sums to zero; a rule's line entries never
                   sum to more than its award (less is what a cap left of it, or a fault: telling them apart takes the program)
    Redis          every account's balance, against the ledger up to the offset that Redis says it has applied
    ClickHouse     every account's balance, against the ledger up to the offset that history has noted
    offers         budgets and decisions in Redis, against the topic `outcomes` (verify_offers.py)
    vouchers       codes in Redis, against the topic `vouchers` (verify_vouchers.py)

Lots and debt of accounts that together are what a member has are those of their sum; what has expired of them is compared as well
(verify_groups.py).
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from tillstream.config import Config
from tillstream.kernels.holdings import Units, settle, sum_of
from tillstream.schemas.ledger import Posting, decode_record, entries
from tillstream.sinks.archive import balances
from tillstream.sinks.redis import Redis
from tillstream.sinks.registry import RegistryStore
from tillstream.sinks.state import StateStore
from tillstream.streams.recovery import read_ledger
from tillstream.tls import kafka_settings
from tillstream.verify_groups import Finding, Groups, add_posting, awaited, groups_of, wrongly_expired
from tillstream.verify_offers import verify_offers
from tillstream.verify_vouchers import verify_vouchers

NOT_THE_RECEIPTS = frozenset({"expiry", "hold", "release", "adjustment"})
"""Kinds that a receipt's posting may hold and that are not among what it gave or took: they move points in time, or write them off."""

SHOWN_MAX = 20
"""Discrepancies that are listed; the rest are counted."""

Balances = Counter[tuple[str, str]]


class LedgerSums:
    """The ledger's own account of itself, entry by entry; a record that stands twice counts once. Of accounts with `kin`, also by date."""

    def __init__(self, kin: Collection[str] = ()) -> None:
        self.kin: dict[str, Units] = {name: {} for name in kin}
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
        if posting.account_id in self.kin:
            add_posting(self.kin[posting.account_id], posting)
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
    groups: int
    groups_awaiting_tick: int
    decisions: int
    vouchers: int | None
    findings: list[Finding]

    def as_json(self) -> dict[str, Any]:
        """The object that `verify --json` prints."""
        return {**self._asdict(), "findings": [finding._asdict() for finding in self.findings[:SHOWN_MAX]], "ok": not self.findings}


async def verify(config: Config, client: Redis, clickhouse: Client | None) -> Report:
    """Compares the whole system, also while it works; `clickhouse` None leaves history out."""
    state, partitions = StateStore(client), range(config.partitions)
    names = {name for partition in partitions async for name, _ in state.accounts(partition)}
    total = Tally(await groups_of(RegistryStore(client), names))
    for partition in partitions:
        await verify_partition(config, state, clickhouse, partition, total)
    waiting = {name for partition in partitions for name in await awaited(state, partition, total.as_of[partition])}
    found = {root: list(total.of_group(group)) for root, group in total.groups.items()}
    moving = {root for root, group in total.groups.items() if not (waiting.isdisjoint(group) and total.seen_alike(group))}
    unsettled = {root for root in moving if found[root]}
    total.findings += chain.from_iterable(findings for root, findings in found.items() if root not in unsettled)
    history = None if clickhouse is None else len(total.history_accounts)
    offers, vouchers = await verify_offers(kafka_settings(config), client), await verify_vouchers(kafka_settings(config), client)
    total.findings += offers.findings + vouchers.findings
    ledger = total.postings, total.entries, len(total.accounts), total.redis_accounts, history
    return Report(*ledger, len(total.groups), len(unsettled), offers.decisions, vouchers.codes, total.findings)


class Tally:
    """What the partitions came to so far; of accounts that have kin, what Redis and the ledger say they hold, and in which partition."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self.kin = {name for group in groups.values() for name in group}
        self.redis: dict[str, Units] = {}
        self.ledger: dict[str, Units] = {}
        self.partition_of: dict[str, int] = {}
        self.as_of: dict[int, str | None] = {}
        self.postings = self.entries = self.redis_accounts = 0
        self.accounts: set[str] = set()
        self.history_accounts: set[str] = set()
        self.findings: list[Finding] = []

    def seen_alike(self, group: Sequence[str]) -> bool:
        """Whether the partitions of a group have seen the same ticks; a tick reaches one after the other."""
        return len({self.as_of.get(self.partition_of.get(name, -1)) for name in group}) == 1

    def of_group(self, group: Sequence[str]) -> Iterator[Finding]:
        """What does not hold of a group's sum."""
        as_of = self.as_of[self.partition_of[group[0]]]
        yield from wrongly_expired(group, self.ledger, as_of)
        yield from uneven({" + ".join(group): sum_of(self.redis.get(name, {}) for name in group)}, as_of)


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
    at_redis, at_touched, at_history = LedgerSums(total.kin), LedgerSums(total.kin), LedgerSums()
    for message in read_ledger(kafka_settings(config), partition, 0):
        for sums, last in ((at_redis, standing.ledger), (at_touched, until), (at_history, written)):
            if (message.offset() or 0) <= last:
                sums.add(message.value() or b"")
    expected = Counter({key: at_touched.balances[key] for key in at_touched.balances if key[0] in touched})
    expected.update({key: points for key, points in at_redis.balances.items() if key[0] not in touched})
    held = {**held, **again}
    total.findings += at_redis.conservation()
    total.findings += uneven({name: units for name, units in held.items() if name not in total.kin}, standing.as_of)
    total.as_of[partition] = standing.as_of
    for name in total.kin & held.keys():
        total.redis[name], total.partition_of[name] = held[name], partition
        total.ledger[name] = (at_touched if name in touched else at_redis).kin[name]
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
