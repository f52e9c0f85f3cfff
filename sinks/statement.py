"""A member's ledger entries out of ClickHouse, page by page, the latest first.

In: accounts, and the place of the last entry that was seen. Out: rows. Redis holds no such list: it forgets old postings, and what expires
or is corrected stands in the ledger and in ClickHouse only.
"""

import threading
from collections.abc import Sequence
from typing import NamedTuple

from clickhouse_connect.driver.client import Client

from tillstream.sinks.clickhouse import connect

PAGE = """
SELECT
    entry_id, toUnixTimestamp64Milli(occurred_at) AS at_ms, toString(day), kind, unit, points, source, receipt_id, line_no, rule_id,
    toString(expires_on), reverses, basis, award, uncovered, posting_kind, posting_id, toUInt32(substring(entry_id, 34)) AS number
FROM ledger_entries
WHERE account_id IN {accounts:Array(String)}
    AND (at_ms, posting_id, number) < ({at_ms:Int64}, {posting:String}, {number:UInt32})
ORDER BY at_ms DESC, posting_id DESC, number DESC
LIMIT {limit:UInt32}
"""


class Place(NamedTuple):
    """Where an entry stands among all: when it happened (ms since the epoch), its posting, its number in it."""

    at_ms: int
    posting_id: str
    number: int


NEWEST = Place(2**62, "~", 2**32 - 1)
"""Before every entry."""


class Row(NamedTuple):
    """One ledger entry; see the view `ledger_entries`."""

    entry_id: str
    at_ms: int
    day: str
    kind: str
    unit: str
    points: int
    source: str
    receipt_id: str | None
    line_no: int | None
    rule_id: str | None
    expires_on: str | None
    reverses: str | None
    basis: int | None
    award: int | None
    uncovered: bool
    posting_kind: str
    posting_id: str
    number: int

    @property
    def place(self) -> Place:
        return Place(self.at_ms, self.posting_id, self.number)


class Statements:
    """Reads pages; connects with the first. One query at a time: a client has one session."""

    def __init__(self, dsn: str, ca: str = "") -> None:
        self.dsn, self.ca = dsn, ca
        self.turn = threading.Lock()
        self.client: Client | None = None

    def page(self, accounts: Sequence[str], after: Place, limit: int) -> list[Row]:
        """At most `limit` entries of the accounts behind `after`.

        Raises:
            Unreachable, clickhouse_connect's ClickHouseError: ClickHouse could not answer.
        """
        parameters = {"accounts": list(accounts), "at_ms": after.at_ms, "posting": after.posting_id, "number": after.number, "limit": limit}
        with self.turn:
            if self.client is None:
                self.client = connect(self.dsn, self.ca)
            return [Row(*row) for row in self.client.query(PAGE, parameters=parameters).result_rows]
