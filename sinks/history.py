"""History: what happened, into ClickHouse, for analysts and for recalling old sales.

In: records of the topics `transactions` (events, with an `accountid` in front) and `ledger`, in the order of their
partition. Out: rows of receipts_log, postings_log, records and history_rejects.

Delivery: at least once into the tables, exactly once out of the views. Acknowledge a batch to Kafka when the call has
returned; after a crash, or an exception, write it again.
Idempotency key: a block is one range of offsets of one partition, sent with the token
`topic:partition:first-last:hash/table`, so that a repeated block is dropped on arrival; the hash is that of the bytes,
because a topic made anew has the same offsets and other records. A repeated record in a block cut otherwise collapses
on the natural key of the receipt or posting; the first offset wins, as it does in accrue.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from hashlib import blake2b
from itertools import groupby
from typing import Any, ClassVar

import msgspec
import structlog
from clickhouse_connect.driver.client import Client

from tillstream.kernels.keys import digest_of, key_of, sale_key_of
from tillstream.schemas.events import ReturnEvent, SaleEvent, typed
from tillstream.schemas.ledger import Posting, decode_record
from tillstream.schemas.receipts import Line, ReturnLine
from tillstream.sinks.archive import ARCHIVE_COLUMNS, KEY_BYTES, archive_row, key_bytes, sale_of
from tillstream.sinks.clickhouse import Inserter

BLOCK_OFFSETS = 10_000
"""Offsets in one block: 100,000 lines, the size at which ClickHouse inserts best; in Python objects about 60 MB."""

BLOCK_BYTES_MAX = 64 << 20
"""Bytes of records in one block, give or take a record: four times what 10,000 usual receipts are, so that only the longest reach it."""

DATE_MIN, DATE_MAX = date(1900, 1, 1), date(2299, 12, 31)
"""What Date32 and DateTime64 hold; a till with a broken clock gets the nearest day and keeps its place in the sums."""

TIME_MIN, TIME_MAX = datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, tzinfo=UTC)

DATES_MAX = 4_000
"""Dates remembered: ten years of them."""

NO_KEY = bytes(KEY_BYTES)
"""Stands for the sale and the digest of a tick."""

KAFKA = ("kafka_partition", "kafka_offset")
LINE_COLUMNS = ("line_no", "original_line_no", "sku", "category", "brand", "kind", "quantity_milli", "amount", "discount")
ENTRY_COLUMNS = (
    *("unit", "kind", "points", "line_no", "rule_id", "expires_on", "spent_on", "reverses", "uncovered", "basis", "award"),
    *("beyond_terms", "hold_id", "until"),
)
COLUMNS = {
    "receipts_log": (
        *("occurred_on", "posting_id", "digest", "kind", "sale_id", "source", "receipt_id", "store_id", "register_id"),
        *("business_date", "issued_at", "utc_offset_minutes", "currency", "original_source", "original_receipt_id"),
        *(f"lines.{name}" for name in LINE_COLUMNS),
        *("tenders.type", "tenders.amount", *KAFKA),
    ),
    "postings_log": (
        *("occurred_on", "posting_id", "digest", "kind", "sale_id", "account_id", "source", "event_id", "receipt_id"),
        *("occurred_at", "utc_offset_minutes", "day", "program_version"),
        *("undone.line_no", "undone.quantity_milli", "undone.amount"),
        *(f"entries.{name}" for name in ENTRY_COLUMNS),
        *KAFKA,
    ),
    "records": ARCHIVE_COLUMNS,
    "history_rejects": ("topic", *KAFKA, "value", "error"),
}
"""What is inserted, in the order of the row functions below."""

Record = tuple[int, bytes]
"""Offset and value."""

Rows = dict[str, list[tuple[Any, ...]]]
"""Rows by table."""

_log = structlog.get_logger(__name__)


class History:
    """Writes blocks; `rejects` counts the records that could not be decoded so far. One thread at a time."""

    columns: ClassVar[Mapping[str, tuple[str, ...]]] = COLUMNS

    def __init__(self, client: Client, block_offsets: int = BLOCK_OFFSETS) -> None:
        self.inserter = Inserter(client)
        self.block_offsets = block_offsets
        self.rejects = 0

    def write_transactions(self, partition: int, records: Sequence[Record]) -> int:
        """Writes the sales and returns among `records`; other events are nothing to history. Gives the rows sent.

        Raises:
            clickhouse_connect's DatabaseError: not everything was written; write the same records again.
        """
        return self._write("transactions", partition, records, add_transaction)

    def write_ledger(self, partition: int, records: Sequence[Record]) -> int:
        """Writes postings with their entries, and the archive. Gives the rows sent; raises as `write_transactions`."""
        return self._write("ledger", partition, records, add_ledger)

    def _write(self, topic: str, partition: int, records: Sequence[Record], add: Callable[[Rows, int, int, bytes], None]) -> int:
        sent = 0
        for block in cut(records, self.block_offsets):
            rows: Rows = {}
            for offset, value in block:
                try:
                    add(rows, partition, offset, value)
                except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
                    rows.setdefault("history_rejects", []).append((topic, partition, offset, value, str(error)))
            self._count_rejects(topic, partition, rows.get("history_rejects", ()))
            token = token_of(topic, partition, block)
            for table, those in rows.items():
                self.inserter.insert(table, self.columns[table], those, f"{token}/{table}")
                sent += len(those)
        return sent

    def _count_rejects(self, topic: str, partition: int, rejects: Sequence[tuple[Any, ...]]) -> None:
        """One line in the log per block, however many there are."""
        if rejects:
            self.rejects += len(rejects)
            first = {"offset": rejects[0][2], "error": rejects[0][4]}
            _log.warning("history_rejects", topic=topic, partition=partition, count=len(rejects), first=first)


def cut(records: Sequence[Record], rows_max: int, bytes_max: int = BLOCK_BYTES_MAX) -> Iterator[Sequence[Record]]:
    """`records` in blocks that end at multiples of `rows_max` offsets: reading again mostly gives the same ones.

    A block ends as well with the record by which it reaches `bytes_max`.

    >>> [[offset for offset, _ in block] for block in cut([(n, b"") for n in (7, 8, 9, 10, 15, 20)], 10)]
    [[7, 8, 9], [10, 15], [20]]
    """
    for _, group in groupby(records, lambda record: record[0] // rows_max):
        block: list[Record] = []
        size = 0
        for record in group:
            block.append(record)
            size += len(record[1])
            if size >= bytes_max:
                yield block
                block, size = [], 0
        if block:
            yield block


def token_of(topic: str, partition: int, block: Sequence[Record]) -> str:
    """What tells a repeated block from another one."""
    content = blake2b(digest_size=8)
    for offset, value in block:
        content.update(b"%d:%d:" % (offset, len(value)))
        content.update(value)
    return f"{topic}:{partition}:{block[0][0]}-{block[-1][0]}:{content.hexdigest()}"


def add_transaction(rows: Rows, partition: int, offset: int, value: bytes) -> None:
    """Adds the row of a sale or return."""
    event = typed(value)
    if isinstance(event, SaleEvent | ReturnEvent):
        rows.setdefault("receipts_log", []).append(receipt_row(event, partition, offset))


def add_ledger(rows: Rows, partition: int, offset: int, value: bytes) -> None:
    """Adds the rows of a ledger record: the posting, and what the archive keeps of it."""
    record = decode_record(value)
    if isinstance(record, Posting):
        rows.setdefault("postings_log", []).append(posting_row(record, partition, offset))
    if (row := archive_row(record, value, partition, offset)) is not None:
        rows.setdefault("records", []).append(row)


def receipt_row(event: SaleEvent | ReturnEvent, partition: int, offset: int) -> tuple[Any, ...]:
    """A row of receipts_log."""
    data = event.data
    moment, minutes = instant(data.issued_at)
    key = key_bytes(key_of(event))
    original: tuple[str | None, str | None] = None, None
    if isinstance(event, ReturnEvent):
        kind, sale_id, lines = "return", key_bytes(sale_key_of(event)), brought_back(event.data.lines)
        original = event.data.original_source or event.source, event.data.original_receipt_id
    else:
        kind, sale_id, lines = "sale", key, sold(event.data.lines)
    return (
        *(moment.date(), key, key_bytes(digest_of(event)), kind, sale_id, event.source, data.receipt_id),
        *(data.store_id, data.register_id, within(data.business_date), moment, minutes, data.currency),
        *(*original, *lines),
        *([tender.type for tender in data.tenders], [tender.amount for tender in data.tenders], partition, offset),
    )


def sold(lines: Sequence[Line]) -> tuple[Any, ...]:
    """The lines of a sale in columns, in the order of LINE_COLUMNS."""
    return (
        *([line.line_no for line in lines], [None] * len(lines), [line.sku for line in lines]),
        *([line.category for line in lines], [line.brand for line in lines], [line.kind for line in lines]),
        *([line.quantity_milli for line in lines], [line.amount for line in lines], [line.discount for line in lines]),
    )


def brought_back(lines: Sequence[ReturnLine]) -> tuple[Any, ...]:
    """The lines of a return in columns, in the order of LINE_COLUMNS; what they are, the sale tells."""
    unknown: list[Any] = [None] * len(lines)
    return (
        *([line.line_no for line in lines], [line.original_line_no for line in lines], unknown, unknown, unknown, unknown),
        *([line.quantity_milli for line in lines], [line.amount for line in lines], [0 for _ in lines]),
    )


def posting_row(posting: Posting, partition: int, offset: int) -> tuple[Any, ...]:
    """A row of postings_log.

    Raises:
        ValueError, OverflowError: a key, date or number that ClickHouse can't hold.
    """
    moment, minutes = instant(datetime.fromisoformat(posting.occurred_at))
    sale_id = sale_of(posting)
    undone = (posting.line_no, posting.quantity_milli, posting.amount) if posting.kind == "void" else ([], [], [])
    check_columns(undone)
    return (
        *(moment.date(), key_bytes(posting.posting_id), key_bytes(posting.digest) if posting.digest else NO_KEY, posting.kind),
        *(key_bytes(sale_id) if sale_id else NO_KEY, posting.account_id, posting.source, posting.event_id),
        *(posting.receipt_id, moment, minutes, day_of(posting.day), posting.program_version),
        *(*undone, *entry_columns(posting), partition, offset),
    )


def entry_columns(posting: Posting) -> tuple[list[Any], ...]:
    """The entries of a posting in columns, in the order of ENTRY_COLUMNS, numbered as `schemas.ledger.entries` does."""
    columns: tuple[list[Any], ...] = tuple([] for _ in ENTRY_COLUMNS)
    for group in posting.entries:
        count = len(group.points)
        unknown = [None] * count
        check_columns((group.points, group.line_no or group.points, group.reverses or group.points))
        check_columns(((group.basis or 0,), (group.award or 0,)))
        values = (
            *([group.unit] * count, [group.kind] * count, group.points, group.line_no or unknown),
            *([group.rule_id] * count, [day_of(group.expires_on)] * count, [day_of(group.spent_on)] * count),
            *(group.reverses or unknown, [group.uncovered] * count, [group.basis] * count, [group.award] * count),
            *([group.beyond_terms] * count, [group.hold_id] * count, [day_of(group.until)] * count),
        )
        for column, part in zip(columns, values, strict=True):
            column.extend(part)
    return columns


def check_columns(columns: Sequence[Sequence[int]]) -> None:
    """Parallel columns of 64 bits, or one record in the rejects: ClickHouse would refuse the whole block, for ever.

    Raises:
        ValueError: the columns differ in length.
        OverflowError: a number needs more than 64 bits.
    """
    if len({len(array("q", column)) for column in columns}) > 1:
        raise ValueError("parallel columns differ in length")


def instant(moment: datetime) -> tuple[datetime, int]:
    """The moment in UTC, as far as ClickHouse can hold it, and the minutes by which local time was ahead."""
    offset = moment.utcoffset()
    if offset is None:
        raise ValueError(f"the time {moment.isoformat()} has no UTC offset")
    return min(max(moment, TIME_MIN), TIME_MAX).astimezone(UTC), round(offset.total_seconds() / 60)


def within(day: date) -> date:
    """The nearest day that ClickHouse can hold."""
    return min(max(day, DATE_MIN), DATE_MAX)


@lru_cache(maxsize=DATES_MAX)
def day_of(text: str | None) -> date | None:
    """The day that an ISO date names, as far as ClickHouse can hold it."""
    return None if text is None else within(date.fromisoformat(text))
