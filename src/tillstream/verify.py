"""`tillstream verify`: proves G4 on a live system (DESIGN.md §3).

Per partition the ledger is read from its beginning to its present end and summed up by itself, one entry after another, sharing no code
with the posting of receipts. Then it is compared:

    conservation   every balance = its entries = its lots - debt; every fully returned receipt sums to zero; a rule's line entries sum to
                   its award, or to what a cap left of it
    Redis          every account's balance, against the ledger up to the offset that Redis says it has applied
    ClickHouse     every account's balance, against the ledger up to the offset that history has committed
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from tillstream.config import Config
from tillstream.kernels.holdings import Units, settle
from tillstream.schemas.ledger import Posting, decode_record, entries
from tillstream.sinks.redis import Redis
from tillstream.sinks.state import StateStore, keys
from tillstream.streams.recovery import read_ledger

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
            points += entry.points if entry.kind != "expiry" else 0
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


async def verify(config: Config, client: Redis, history: Iterable[tuple[str, str, int]] | None) -> Report:
    """Compares the whole system; `history` is ClickHouse's balances, None where it is left out."""
    totals: Balances = Counter()
    postings = entries_n = redis_accounts = 0
    findings: list[Finding] = []
    state = StateStore(client)
    for partition in range(config.partitions):
        standing = await state.standing(partition)
        sums = LedgerSums()
        for message in read_ledger({"bootstrap.servers": config.kafka}, partition, 0):
            if (message.offset() or 0) <= standing.ledger:
                sums.add(message.value() or b"")
        findings.extend(sums.conservation())
        held = await redis_balances(client, partition, standing.as_of, findings)
        findings.extend(differences("redis", sums.balances, held))
        redis_accounts += len({account for account, _ in held})
        postings, entries_n = postings + len(sums.postings), entries_n + sums.entries
        totals.update(sums.balances)
    clickhouse: Balances | None = None
    if history is not None:
        clickhouse = Counter({(account, unit): points for account, unit, points in history})
        findings.extend(differences("clickhouse", totals, clickhouse))
    accounts = len({account for account, _ in totals})
    return Report(postings, entries_n, accounts, redis_accounts, None if clickhouse is None else len({a for a, _ in clickhouse}), findings)


async def redis_balances(client: Redis, partition: int, as_of: str | None, findings: list[Finding]) -> Balances:
    """The balances that Redis holds; checks on the way that each is its lots less its debt."""
    held: Balances = Counter()
    async for name, raw in client.hscan_iter(keys(partition)[1]):
        for unit, holding in msgspec.json.decode(raw, type=Units).items():
            settled = settle(holding, as_of)
            lots = sum(settled.lots.values()) - settled.debt
            if lots != holding.balance:
                findings.append(Finding("lots - debt", f"{name.decode()} {unit}", holding.balance, lots))
            held[name.decode(), unit] = holding.balance
    return held


def differences(check: str, expected: Balances, found: Balances) -> Iterator[Finding]:
    """Accounts whose balances are not the ledger's."""
    for key in sorted(expected.keys() | found.keys()):
        if expected[key] != found[key]:
            yield Finding(check, " ".join(key), expected[key], found[key])
