"""`transport`: records per second through a Faust agent that does nothing, by driver.

In: how many records, how many runs. Out: medians; no goals of their own, since `pipeline` has the goals that count.
"""

from collections.abc import Callable
from statistics import median

from loadtest.contender import Result, contend
from loadtest.load import PARTITIONS, preload, prepare
from loadtest.report import Report, TableOf
from tillstream.embedded.broker import Broker
from tillstream.streams.topics import ensure_topics

STOCK = "aiokafka"
DRIVERS = ("librdkafka", "aiokafkabatches", STOCK)
STOCK_SHARE = 5
"""One record an event is some twenty times slower; a fifth of the load gives a rate as good."""


def run(receipts: int, runs: int, progress: Callable[[str], None]) -> Report:
    """All runs of all drivers.

    Raises:
        VoidRunError: a contender failed.
    """
    records = prepare(receipts)
    share = records[: max(1, receipts // STOCK_SHARE)]
    results: dict[str, list[Result]] = {driver: [] for driver in DRIVERS}
    for number in range(runs):
        for driver in DRIVERS:
            load = share if driver == STOCK else records
            with Broker() as kafka:
                ensure_topics(kafka, PARTITIONS, 1)
                preload(kafka, load)
                arguments = ("--driver", driver, "--kafka", kafka, "--receipts", str(len(load)))
                result = contend("loadtest.contend_nothing", *arguments)
            results[driver].append(result)
            progress(f"run {number + 1}/{runs}  {driver:<16}  {result.rate:>10,.0f} records/s")
    return report(receipts, runs, results)


def report(receipts: int, runs: int, results: dict[str, list[Result]]) -> Report:
    """Medians, and ratios to stock Faust."""
    rate = {name: median(result.rate for result in each) for name, each in results.items()}
    figures = {
        name: {
            "records": each[0].receipts,
            "records_per_s": [round(result.rate) for result in each],
            "median_records_per_s": round(rate[name]),
            "cpu_us_per_record": round(median(result.cpu_s / result.receipts * 1e6 for result in each), 1),
            "rss_peak_mib": round(max(result.rss_mib for result in each)),
        }
        for name, each in results.items()
    }
    rows = [
        [name, f"{rate[name]:,.0f}", f"{each['cpu_us_per_record']}", f"{rate[name] / rate[STOCK]:.1f}", f"{each['rss_peak_mib']}"]
        for name, each in figures.items()
    ]
    columns = ["driver", "records/s", "CPU µs each", "× stock", "RSS MiB"]
    notes = [f"medians of {runs}; {STOCK} had {figures[STOCK]['records']:,} records and is compared by rate"]
    return Report(
        "transport", {"receipts": receipts, "runs": runs}, figures, [], [TableOf("An agent that does nothing", columns, rows)], notes
    )
