"""What a gateway counts, in the text format that Prometheus reads at `/metrics`."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""A till waits for milliseconds; `Prefer: wait` ends at ten seconds."""


class Metrics:
    """Requests and their seconds by route; what was sent to Kafka, and what workers answered."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter("tillstream_gateway_requests", "Answers by route and status.", ("route", "status"), registry=own)
        self.seconds = Histogram("tillstream_gateway_seconds", "Seconds to the answer.", ("route",), buckets=SECONDS, registry=own)
        self.spooled = Gauge("tillstream_gateway_spooled", "Receipts on disk that wait for Kafka.", registry=own)
        self.events = Counter("tillstream_gateway_events", "Events by what became of them here.", ("outcome",), registry=own)
        self.clicks = Counter("tillstream_gateway_clicks", "Page views and the like by what became of them.", ("outcome",), registry=own)

        self.listeners = Gauge("tillstream_gateway_listeners", "Streams of triggers that are open.", ("kind",), registry=own)
        self.listened = Counter("tillstream_gateway_streams", "Streams of triggers by what befell them.", ("event",), registry=own)

    def note(self, route: str, status: int, seconds: float | None) -> None:
        """Counts one answer."""
        self.requests.labels(route, str(status)).inc()
        if seconds is not None:
            self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self.registry)
