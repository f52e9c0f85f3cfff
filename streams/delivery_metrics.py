"""What a worker that delivers counts, for Prometheus, on an address of its own (setting `deliver_metrics`)."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class DeliveryMetrics:
    """Attempts and their outcomes by endpoint, and what waits."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("endpoint", "outcome")
        self.deliveries = Counter("tillstream_deliveries", "Deliveries by what became of them.", labels, registry=self.registry)
        self.waiting = Gauge("tillstream_deliveries_waiting", "Deliveries that wait for an attempt.", ("endpoint",), registry=self.registry)
