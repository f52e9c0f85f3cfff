"""A member's ledger entries out of ClickHouse, page by page, the latest first; and single postings that Redis has let go.

In: accounts, and the place of the last entry that was seen; or a natural key. Out: rows; or a ledger record. Redis holds no list of an
account's entries: it forgets old postings, and what expires or is corrected stands in the ledger and in ClickHouse only.
"""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

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


POSTING = """
SELECT record
FROM records
WHERE sale_id IN (SELECT sale_id FROM postings_log WHERE posting_id = toFixedString(unhex({posting:String}), 16))
    AND posting_id = toFixedString(unhex({posting:String}), 16) AND type = 'ledger.posted'
ORDER BY kafka_offset
LIMIT 1
"""
"""`records` is sorted by sale, and which sale it is tells `postings_log`, where the key is read in one granule a day."""


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
    """Reads pages and postings; connects with the first. One query at a time: a client has one session."""

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
        return [Row(*row) for row in self._rows(PAGE, parameters)]

    def posting(self, key: str) -> bytes | None:
        """The ledger record of a posting by its natural key, 32 hexadecimal digits; None: history has none.

        Raises:
            As `page`.
        """
        rows = self._rows(POSTING, {"posting": key}, {"String": "bytes"})
        return rows[0][0] if rows else None

    def _rows(self, query: str, parameters: dict[str, Any], formats: dict[str, str] | None = None) -> Sequence[Sequence[Any]]:
        with self.turn:
            if self.client is None:
                self.client = connect(self.dsn, self.ca)
            return self.client.query(query, parameters=parameters, query_formats=formats).result_rows
