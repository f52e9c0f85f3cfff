"""The load: sales of one size, as `identify` routes them, and what they must earn.

In: a number of receipts. Out: records for the topic `transactions`, in Kafka; and their points, summed up by the kernel alone, with no
streaming: what every contender's Redis must come to.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import KafkaError, Message, Producer

from tillstream.kernels.award import Kernel
from tillstream.kernels.columns import gather
from tillstream.kernels.identities import Seal
from tillstream.kernels.keys import occurred
from tillstream.kernels.posters import Posters
from tillstream.kernels.posting import Poster
from tillstream.kernels.routed import Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.events import SaleEvent, decode
from tillstream.schemas.program_file import Versioned, parse_program
from tillstream.schemas.receipts import Sale
from tillstream.sinks.writer import PRODUCER
from tillstream.sources.generated import fixed_size
from tillstream.streams.identify import with_account
from tillstream.streams.topics import TRANSACTIONS

PROGRAM = Path(__file__).with_name("ten_rules.toml")
FIFTY_RULES = Path(__file__).with_name("fifty_rules.toml")
PROGRAMS = {"ten": PROGRAM, "fifty": FIFTY_RULES}
PARTITIONS = 8
LINES = 12
SEED = 11
KERNEL_BATCH = 2_000
"""Receipts per call of the kernel, as a worker's batches have them."""

IDENTITY_KEY = "of-the-load-tests-only"
FLUSH_S = 60.0


class Prepared(NamedTuple):
    """One record of `transactions`."""

    account: str
    value: bytes


class LoadError(Exception):
    """The load could not be brought into Kafka."""


def program() -> Versioned:
    """The 10-rule program."""
    return parse_program(PROGRAM.read_text(encoding="utf-8"))


def fifty_rules() -> Versioned:
    """The program that looks at members, with every key of the program language."""
    return parse_program(FIFTY_RULES.read_text(encoding="utf-8"))


def prepare(receipts: int) -> list[Prepared]:
    """The first `receipts` records; a larger number only appends."""
    return list(prepared(receipts))


def prepared(receipts: int) -> Iterator[Prepared]:
    """The records one by one, keyed and marked as `identify` does it for cards that nobody enrolled."""
    seal = Seal(IDENTITY_KEY.encode())
    for raw in fixed_size(receipts, SEED, LINES):
        event = decode(raw)
        member = event.data.member if isinstance(event, SaleEvent) else None
        account = "" if member is None else seal.account_of(member)
        yield Prepared(account, with_account(raw, account))


def sales(records: list[Prepared]) -> list[Sale]:
    """The typed sales in `records`."""
    events = [decode(record.value) for record in records]
    return [event.data for event in events if isinstance(event, SaleEvent)]


def expected_points(records: list[Prepared]) -> int:
    """The points of all receipts together."""
    poster = Poster(program())
    kernel: Kernel = poster.kernel
    total = 0
    for first in range(0, len(records), KERNEL_BATCH):
        columns = gather(poster.compiled, sales(records[first : first + KERNEL_BATCH]), poster.zone)
        for given in kernel.award(*columns[:-1]).by_receipt():
            total += sum(sum(points) for *_, points in given)
    return total


def expected_member_points(records: list[Prepared]) -> int:
    """The same by fifty rules: what the accounts hold after all receipts, taken in their order."""
    family = Posters(Timetable([fifty_rules()]))
    routed = [Routed(decode(record.value), record.account, place, record.value) for place, record in enumerate(records)]  # type: ignore[arg-type]
    routed.sort(key=lambda each: (occurred(each.event), each.key))
    known = Snapshot()
    for first in range(0, len(routed), KERNEL_BATCH):
        snapshot = Snapshot()
        snapshot.accounts, snapshot.members = known.accounts, known.members
        family.post(routed[first : first + KERNEL_BATCH], snapshot)
    return sum(holding.balance for units in known.accounts.values() for holding in units.values())


def preload(bootstrap: str, records: list[Prepared]) -> None:
    """Sends all records to `transactions`, by their account.

    Raises:
        LoadError: Kafka did not acknowledge one.
    """
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer({**PRODUCER, "bootstrap.servers": bootstrap, "linger.ms": 20})
    for record in records:
        while True:
            try:
                producer.produce(TRANSACTIONS, record.value, record.account.encode(), on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(FLUSH_S) or failures:
        raise LoadError(f"Kafka did not take the load: {failures[0].str() if failures else 'timed out'}")
