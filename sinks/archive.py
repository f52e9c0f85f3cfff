"""The archive: ledger records by the sale that they are about, from which old sales are recalled; and the sums for `verify`.

In: ledger records, natural keys of sales. Out: the records that Redis has forgotten, byte for byte.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from tillstream.schemas.ledger import Posting, Refused, Waiting

ARCHIVE_COLUMNS = ("sale_id", "posting_id", "type", "record", "kafka_partition", "kafka_offset")
"""What `archive_row` gives."""

TYPES = {Posting: "ledger.posted", Waiting: "ledger.waiting", Refused: "ledger.refused"}
"""The `type` of each record's envelope."""

KEY_BYTES = 16
"""Length of natural keys and digests; kernels/keys.py."""

FIND_SALES_MAX = 1_000
"""Sales in one query: their keys travel in the URL, 35 kB here, and servers take 1 MiB."""

FIND = """
SELECT lower(hex(sale_id)) AS sale, record
FROM records
WHERE sale_id IN (SELECT toFixedString(unhex(arrayJoin({sales:Array(String)})), 16)) AND type = 'ledger.posted'
ORDER BY sale_id, kafka_offset
LIMIT 1 BY sale_id, posting_id
"""

OF_ACCOUNT = """
SELECT kafka_partition, record
FROM records
WHERE posting_id IN (SELECT posting_id FROM postings_log WHERE account_id = {account:String}) AND type = 'ledger.posted'
ORDER BY kafka_offset
LIMIT 1 BY posting_id
"""

OF_RECEIPT = """
SELECT kafka_partition, record
FROM records
WHERE posting_id IN (SELECT posting_id FROM postings_log WHERE receipt_id = {receipt:String}) AND type = 'ledger.posted'
ORDER BY kafka_offset
LIMIT 1 BY posting_id
"""

BALANCES = """
SELECT account_id, unit, sum(points) AS balance
FROM
(
    SELECT account_id, entries.unit AS units, entries.points AS movements
    FROM postings_log FINAL
    WHERE account_id IS NOT NULL AND ({partition:Int64} < 0 OR kafka_partition = {partition:Int64}) AND kafka_offset <= {until:UInt64}
)
ARRAY JOIN units AS unit, movements AS points
GROUP BY account_id, unit
ORDER BY account_id, unit
"""

GIVEN = "SELECT sum(points) FROM ledger_entries WHERE account_id IS NOT NULL AND unit = {unit:String}"

EVERY_PARTITION = -1
TO_THE_END = 2**63 - 1

COUNTS = """
SELECT
    (SELECT count() FROM receipts WHERE kind = 'sale') AS sales,
    (SELECT count() FROM receipts WHERE kind = 'return') AS returns,
    (SELECT count() FROM receipts WHERE kind = 'void') AS voids,
    (SELECT count() FROM receipt_lines) AS lines,
    (SELECT count() FROM postings_log FINAL) AS postings,
    (SELECT count() FROM ledger_entries) AS entries,
    (SELECT count() FROM history_rejects FINAL) AS rejects
"""


class Counts(NamedTuple):
    """How much there is, each thing once; `postings` counts ticks as well."""

    sales: int
    returns: int
    voids: int
    lines: int
    postings: int
    entries: int
    rejects: int


def archive_row(record: Posting | Waiting | Refused, raw: bytes, partition: int, offset: int) -> tuple[Any, ...] | None:
    """The row of the table `records` for one ledger record, whose bytes are `raw`; a tick has none."""
    sale_id = sale_of(record)
    if sale_id is None:
        return None
    return key_bytes(sale_id), key_bytes(record.posting_id), TYPES[type(record)], raw, partition, offset


def key_bytes(text: str) -> bytes:
    """The 16 bytes of a natural key or digest.

    Raises:
        ValueError: `text` is not 32 hexadecimal digits.
    """
    key = bytes.fromhex(text)
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key of {len(key)} bytes, not {KEY_BYTES}")
    return key


def sale_of(record: Posting | Waiting | Refused) -> str | None:
    """The sale that a ledger record is about; a tick is about none."""
    if not isinstance(record, Posting):
        return record.sale_id
    return None if record.kind == "tick" else record.reverses_posting or record.posting_id


class Placed(NamedTuple):
    """A ledger record, and its partition."""

    partition: int
    record: bytes


class Archive:
    """Recalls sales by their natural keys (32 hexadecimal digits)."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def find(self, sale_ids: Sequence[str]) -> dict[str, list[bytes]]:
        """The `ledger.posted` records of each sale that history has, each once: the sale's own, then what undid it.

        Replaying a list through `Snapshot.record` gives the state of the sale. What is not there is not in the result;
        a sale whose own record is still on its way may be there with its returns only.

        Raises:
            clickhouse_connect's DatabaseError: ClickHouse could not answer.
        """
        found: dict[str, list[bytes]] = {}
        for part in (sale_ids[start : start + FIND_SALES_MAX] for start in range(0, len(sale_ids), FIND_SALES_MAX)):
            result = self.client.query(FIND, parameters={"sales": list(part)}, query_formats={"String": "bytes"})
            for sale, record in result.result_rows:
                found.setdefault(sale.decode(), []).append(record)
        return found


    def of_account(self, account_id: str) -> list[Placed]:
        """All postings of an account, each once, in the order of the ledger; ticks are not among them."""
        return self._placed(OF_ACCOUNT, {"account": account_id})

    def of_receipt(self, receipt_id: str) -> list[Placed]:
        """The postings of all receipts of this name, whatever their source; a void has the name of its sale."""
        return self._placed(OF_RECEIPT, {"receipt": receipt_id})

    def _placed(self, query: str, parameters: dict[str, str]) -> list[Placed]:
        rows = self.client.query(query, parameters=parameters, query_formats={"String": "bytes"}).result_rows
        return [Placed(partition, record) for partition, record in rows]


def balances(client: Client, partition: int = EVERY_PARTITION, until: int = TO_THE_END) -> Iterator[tuple[str, str, int]]:
    """(account_id, unit, points) of every account that ever had an entry, in order: the sums of its ledger entries.

    `partition` and `until` restrict the sums to a partition of the topic `ledger`, and to its offsets up to and including `until`.

    They are streamed: on chDB in this process the client can do nothing else until the last one is read.
    """
    with client.query_rows_stream(BALANCES, parameters={"partition": partition, "until": until}) as rows:
        yield from rows


def counts(client: Client) -> Counts:
    """How much history holds, as analysts see it."""
    return Counts(*client.query(COUNTS).result_rows[0])


def points_given(client: Client, unit: str = "points") -> int:
    """What all accounts hold of a unit, debts subtracted."""
    return int(client.query(GIVEN, parameters={"unit": unit}).result_rows[0][0])
