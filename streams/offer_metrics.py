"""What a worker that decides on offers counts, for Prometheus, on an address of its own (setting `offers_metrics`).

The figures are those of streams/stats.py, read when Prometheus asks, so that counting costs a decision nothing.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from tillstream.streams.stats import Stats

GROUPS = ("treated", "control")
ANSWERS = ("bought", "returned")


class OfferMetrics(Collector):
    """Decisions by offer and group, decisions that were not made by offer and reason, answers by receipts."""

    def __init__(self, stats: Stats) -> None:
        self.stats = stats
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The counters as of now."""
        decisions = CounterMetricFamily("tillstream_offer_decisions", "Decisions to make an offer.", labels=("offer", "group"))
        refusals = CounterMetricFamily("tillstream_offer_refusals", "Offers that were not made.", labels=("offer", "reason"))
        answers = CounterMetricFamily("tillstream_offer_answers", "Decisions that receipts answered.", labels=("offer", "outcome"))
        # Lists at once: the worker goes on counting in another thread.
        for offer, counts in list(self.stats.offers.items()):
            for what, count in list(counts.items()):
                family = decisions if what in GROUPS else answers if what in ANSWERS else refusals
                family.add_metric((offer, what), count)
        yield from (decisions, refusals, answers)
