"""`tillstream explain`: why the lines of a receipt earned what they did, and why each other rule did not apply, on the live system.

In: the name of a receipt. Out: explanations, from what the system has written down, and nothing else:

    its posting       ClickHouse, or, where that is still on its way there, the end of the topic `ledger`
    its account's     the same; they make the member's state before it
    the sale itself   the topic `transactions`, at the offset that its posting names
    the program       the topic `programs`, by the version that its posting names
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from tillstream.config import Config
from tillstream.errors import CheckFailed, UsageError
from tillstream.kernels.chronicle import UNDOING, Chronicle
from tillstream.kernels.keys import key_of
from tillstream.kernels.posters import Posters
from tillstream.kernels.timetable import NOTHING
from tillstream.schemas.events import ROUTED_BYTES_MAX, SaleEvent, decode
from tillstream.schemas.explanations import Explanation
from tillstream.schemas.ledger import Posting, decode_record
from tillstream.schemas.receipts import Sale
from tillstream.servers import check_kafka, clickhouse_of, failures_named, redis_of
from tillstream.sinks.archive import Archive, Placed
from tillstream.sinks.state import StateStore
from tillstream.streams.programs import read_shelf
from tillstream.streams.recovery import read_ledger, read_topic
from tillstream.streams.topics import TRANSACTIONS
from tillstream.tls import kafka_settings

STEP_BACK = 1_000
"""Records that are read in front of the wanted one: the embedded broker does not count all of its last batch, which has fewer, as there."""


async def explain_receipt(config: Config, receipt: str, source: str | None = None, line_no: int | None = None) -> list[Explanation]:
    """The explanations of a sale and of its void, or of a return.

    Raises:
        CheckFailed: no such receipt is posted, or it has no such line, or the program that judged it is not published any more.
        UsageError: several sources have a receipt of this name; or no program is published.
    """
    check_kafka(config)
    async with redis_of(config) as redis:
        state = StateStore(redis)
        written = {partition: await state.history(partition) for partition in range(config.partitions)}
        as_of = {partition: (await state.standing(partition)).as_of for partition in range(config.partitions)}
    clickhouse = clickhouse_of(config)
    with failures_named(config):
        ledger = LiveLedger(config, clickhouse, written)
        found = [placed for placed in ledger.of_receipt(receipt) if source in {None, placed.posting.source}]
        partition = the_one(found, receipt).partition
        chronicle = Chronicle(posters_of(ledger.kafka, found), ledger.around(found[0]), as_of[partition])
        return [explained(ledger, chronicle, placed, line_no) for placed in found]


class Found(NamedTuple):
    """A posting and its partition."""

    partition: int
    posting: Posting


class LiveLedger:
    """The ledger as the servers have it: ClickHouse up to an offset per partition, Kafka behind that."""

    def __init__(self, config: Config, clickhouse: Client, written: dict[int, int]) -> None:
        self.kafka: dict[str, Any] = {**kafka_settings(config), "log_level": 0}
        self.archive = Archive(clickhouse)
        self.written = written

    def of_receipt(self, receipt: str) -> list[Found]:
        """The postings of receipts of this name, in the order of their ledgers."""
        young = [found for partition in self.written for found in self.young(partition) if found.posting.receipt_id == receipt]
        found = each_once([*posted(self.archive.of_receipt(receipt)), *young])
        return [each for each in found if each.posting.kind in {"sale", *UNDOING}]

    def around(self, found: Found) -> list[Posting]:
        """Everything on the account of a posting; of a receipt without a member, its sale and what came back of it."""
        account, sale = found.posting.account_id, found.posting.reverses_posting or found.posting.posting_id
        young = [each for each in self.young(found.partition) if (account is not None and each.posting.account_id == account)
                 or sale in {each.posting.posting_id, each.posting.reverses_posting}]  # fmt: skip
        if account is not None:
            old = self.archive.of_account(account)
        else:
            old = [Placed(found.partition, record) for record in self.archive.find([sale]).get(sale, [])]
        return [each.posting for each in each_once([*posted(old), *young])]

    def young(self, partition: int) -> Iterator[Found]:
        """The end of a partition that ClickHouse may not have yet."""
        first = max(0, self.written[partition] + 1 - STEP_BACK)
        return posted(Placed(partition, message.value() or b"") for message in read_ledger(self.kafka, partition, first))

    def sale(self, found: Found) -> Sale:
        """The data of a sale as it came.

        Raises:
            CheckFailed: `transactions` does not have it any more.
        """
        offset = found.posting.offset
        for message in read_topic(self.kafka, TRANSACTIONS, found.partition, max(0, offset - STEP_BACK)):
            if message.offset() == offset:
                event = decode(message.value() or b"", ROUTED_BYTES_MAX)
                if isinstance(event, SaleEvent) and key_of(event) == found.posting.posting_id:
                    return event.data
                break
        raise CheckFailed(f"the sale {found.posting.receipt_id!r} is not at offset {offset} of {TRANSACTIONS} {found.partition} any more")


def posters_of(kafka: dict[str, Any], found: list[Found]) -> Posters:
    """All programs that were ever published, for the versions that judged these receipts.

    Raises:
        CheckFailed: one of them was taken back.
        UsageError: nothing is published.
    """
    timetable = read_shelf(kafka).timetable()
    if timetable is None:
        raise UsageError("no program is published; workers publish the setting `program` when they first start")
    for each in found:
        try:
            timetable.named(each.posting.program_version or NOTHING)
        except KeyError:
            version = each.posting.program_version
            words = f"the receipt was judged by program version {version}, which is not published any more"
            raise CheckFailed(f"{words}; publish it again to have it explained") from None
    return Posters(timetable)


def the_one(found: list[Found], receipt: str) -> Found:
    """The first of postings that must be there and of one source."""
    sources = sorted({each.posting.source for each in found})
    if not found:
        raise CheckFailed(f"no receipt {receipt!r} is posted; one that waits for its sale is not, and refused ones are in `deadletter`")
    if len(sources) > 1:
        raise UsageError(f"several sources have a receipt {receipt!r}: {', '.join(sources)}; name one with --source")
    return found[0]


def explained(ledger: LiveLedger, chronicle: Chronicle, found: Found, line_no: int | None) -> Explanation:
    if found.posting.kind != "sale":
        return chronicle.undo(found.posting.posting_id)
    if line_no is not None and line_no not in found.posting.line_no:
        raise CheckFailed(f"receipt {found.posting.receipt_id!r} has no line {line_no}")
    return chronicle.sale(found.posting.posting_id, ledger.sale(found))


def posted(records: Iterable[Placed]) -> Iterator[Found]:
    """The postings among ledger records."""
    for partition, raw in records:
        record = decode_record(raw)
        if isinstance(record, Posting):
            yield Found(partition, record)


def each_once(found: Iterable[Found]) -> list[Found]:
    """A record that stands twice counts once."""
    return list({each.posting.posting_id: each for each in reversed(list(found))}.values())[::-1]
