"""`kernel`: lines per second of the award kernel on one core, with ten rules and with fifty that look at members, and what is around it.

In: how many receipts of 12 lines, how many runs. Out: medians; the ratios to a NumPy version (numpy_award.py) and to the oracle
(tests/reference.py). Their results are compared first, receipt by receipt, on a sample: unequal ones void the test.
"""

import math
import time
import tomllib
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import msgspec

from loadtest.contender import VoidRunError
from loadtest.load import KERNEL_BATCH, PROGRAM, Prepared, prepare, program
from loadtest.member_kernel import MemberBench
from loadtest.numpy_award import NumpyAward
from loadtest.report import Goal, Report, TableOf
from tests import reference
from tillstream.collector import spare_the_collector
from tillstream.kernels.columns import Columns, gather
from tillstream.kernels.posting import Poster
from tillstream.kernels.routed import Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import SaleEvent, decode

LINES_PER_S_WANTED = 5_000_000
FIFTY_LINES_PER_S_WANTED = 2_000_000
FIFTY = "fifty: "
"""In front of the names of what is timed with the fifty-rule program."""

SAMPLE = 200
"""Receipts for the oracle, which takes some milliseconds each, and for the comparison."""

SHORTEST_S = 0.3
"""Calls are repeated for so long within a run: one alone would show the clock and the machine's other work."""

Points = dict[tuple[str, int], int]
"""Points by rule id and place of the line."""


class Work(NamedTuple):
    """One thing to time: what it takes per call, in receipts and lines."""

    name: str
    call: Callable[[], object]
    receipts: int
    lines: int


class Bench:
    """The batches, decoded and in columns, and the ways of judging them."""

    def __init__(self, records: Sequence[Prepared]) -> None:
        self.records = records
        self.poster = Poster(program())
        self.numpy = NumpyAward(self.poster.compiled)
        self.source = tomllib.loads(PROGRAM.read_text(encoding="utf-8"))
        events = [decode(record.value) for record in records]
        self.events = [event for event in events if isinstance(event, SaleEvent)]
        self.batches = [self.events[first : first + KERNEL_BATCH] for first in range(0, len(self.events), KERNEL_BATCH)]
        self.columns = [self.gather(batch) for batch in self.batches]
        self.awards = [self.poster.kernel.award(*columns[:-1]) for columns in self.columns]

    def gather(self, batch: Sequence[SaleEvent]) -> Columns:
        return gather(self.poster.compiled, [event.data for event in batch], self.poster.zone)

    def post(self) -> None:
        """The whole of `Poster.post`, with ledger records, against an empty state."""
        for number, batch in enumerate(self.batches):
            first = number * KERNEL_BATCH
            raws = self.records[first : first + len(batch)]
            routed = [Routed(event, raw.account, first + i, raw.value) for i, (event, raw) in enumerate(zip(batch, raws, strict=True))]
            self.poster.post(routed, Snapshot())

    def works(self) -> list[Work]:
        """What is timed; the oracle gets a sample."""
        receipts = len(self.events)
        lines = sum(len(event.data.lines) for event in self.events)
        sample = [msgspec.to_builtins(event.data) for event in self.events[:SAMPLE]]
        kernel, poster = self.poster.kernel, self.post
        sample_lines = sum(len(sale["lines"]) for sale in sample)
        return [
            Work("kernel", each_batch(lambda columns: kernel.award(*columns[:-1]), self.columns), receipts, lines),
            Work("numpy", each_batch(self.numpy.award, self.columns), receipts, lines),
            Work("oracle", lambda: [reference.earn(self.source, sale) for sale in sample], len(sample), sample_lines),
            Work("decode", lambda: [decode(record.value) for record in self.records], receipts, lines),
            Work("columns.gather", lambda: [self.gather(batch) for batch in self.batches], receipts, lines),
            Work("by_receipt", lambda: [awards.by_receipt() for awards in self.awards], receipts, lines),
            Work("Poster.post", poster, receipts, lines),
        ]

    def compare(self) -> None:
        """Kernel, NumPy and oracle on the sample.

        Raises:
            VoidRunError: they differ; names the receipt.
        """
        batch = self.events[:SAMPLE]
        columns = self.gather(batch)
        ids = [rule.id for rule in self.poster.compiled.rules]
        given = self.poster.kernel.award(*columns[:-1]).by_receipt()
        matrices = self.numpy.award(columns)
        for r, event in enumerate(batch):
            own = {(ids[row], place): points for row, _, _, places, each in given[r] for place, points in zip(places, each, strict=True)}
            judged = reference.earn(self.source, msgspec.to_builtins(event.data))
            oracle = {(rule, place): points for rule, parts in judged.items() for place, points in parts.items()}
            by_numpy = numpy_points(ids, [matrix[r] for matrix in matrices])
            if not own == oracle == by_numpy:
                raise VoidRunError(f"receipt {event.data.receipt_id}: kernel, NumPy and oracle differ")


def member_works(bench: MemberBench) -> list[Work]:
    """What is timed with the fifty-rule program."""
    receipts = len(bench.events)
    lines = sum(len(event.data.lines) for event in bench.events)
    timed = {"look + kernel": bench.judge, "look + kernel + text": bench.judge_and_write, "Poster.post": bench.post}
    return [Work(FIFTY + name, call, receipts, lines) for name, call in timed.items()]


def numpy_points(ids: list[str], rows: Sequence[Any]) -> Points:
    """One receipt's row of each rule's matrix, zeros left out."""
    return {(ids[k], place): int(points) for k, row in enumerate(rows) for place, points in enumerate(row) if points}


def seconds(work: Work) -> float:
    """One measurement: seconds of the fastest call within `SHORTEST_S`, as timeit takes it: what else the machine does only adds."""
    fastest, began = math.inf, time.process_time()
    while time.process_time() - began < SHORTEST_S:
        start = time.process_time()
        work.call()
        fastest = min(fastest, time.process_time() - start)
    return fastest


def each_batch(judge: Callable[[Columns], object], batches: Sequence[Columns]) -> Callable[[], None]:
    """Judges batch after batch and lets go of each result, as a worker does."""

    def call() -> None:
        for columns in batches:
            judge(columns)

    return call


def run(receipts: int, runs: int, progress: Callable[[str], None]) -> Report:
    """All measurements, taking turns.

    Raises:
        VoidRunError: kernel, NumPy and oracle do not agree.
    """
    spare_the_collector()
    records = prepare(receipts)
    bench, members = Bench(records), MemberBench(records)
    bench.compare()
    members.compare(SAMPLE)
    works = [*bench.works(), *member_works(members)]
    taken: dict[str, list[float]] = {work.name: [] for work in works}
    for number in range(runs):
        for work in works:
            taken[work.name].append(seconds(work))
            progress(f"run {number + 1}/{runs}  {work.name:<22}  {work.lines / taken[work.name][-1]:>12,.0f} lines/s")
    return report(receipts, runs, works, {name: median(each) for name, each in taken.items()})


def report(receipts: int, runs: int, works: Sequence[Work], taken: dict[str, float]) -> Report:
    """Rates, costs per receipt, ratios."""
    rate = {work.name: work.lines / taken[work.name] for work in works}
    figures = {
        work.name: {
            "lines_per_s": round(rate[work.name]),
            "us_per_receipt": round(taken[work.name] / work.receipts * 1e6, 2),
            "kernel_is_times_as_fast": round(rate["kernel"] / rate[work.name], 1),
        }
        for work in works
    }
    rows = [[name, *(f"{value:,}" for value in each.values())] for name, each in figures.items()]
    columns = ["work", "lines/s", "µs per receipt", "kernel is × as fast"]
    goals = [
        Goal("kernel lines/s on one core, ten rules", LINES_PER_S_WANTED, rate["kernel"]),
        Goal("look + kernel lines/s on one core, fifty rules", FIFTY_LINES_PER_S_WANTED, rate[FIFTY + "look + kernel"]),
    ]
    notes = [
        f"medians of {runs}, each the fastest of the calls that fit in {SHORTEST_S} s of one thread's CPU time",
        f"kernel, NumPy and oracle agreed on {min(SAMPLE, receipts)} receipts first; with fifty rules, kernel and oracle",
    ]
    asked = {"receipts": receipts, "lines_per_receipt": 12, "batch": KERNEL_BATCH, "runs": runs}
    return Report("kernel", asked, figures, goals, [TableOf("The award kernel, ten rules and fifty", columns, rows)], notes)
