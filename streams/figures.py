"""Figures for Prometheus, on an address of a worker's own."""

from prometheus_client import CollectorRegistry, start_http_server


def serve(registry: CollectorRegistry, address: str) -> None:
    """Serves a registry on `host:port` until the process ends.

    Raises:
        OSError: the port is taken, or the host is not ours.
    """
    host, _, port = address.rpartition(":")
    start_http_server(int(port), host.strip("[]"), registry)
