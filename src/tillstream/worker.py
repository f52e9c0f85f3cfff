"""One Faust worker against the configured servers, until SIGTERM or Ctrl-C."""

import asyncio
import logging
import socket
from typing import Literal, get_args

import faust
import uvloop

from tillstream.collector import spare_the_collector
from tillstream.config import Config, load_seed, part_of
from tillstream.endpoints import load_targets
from tillstream.errors import UsageError
from tillstream.servers import check_identity_key, check_servers
from tillstream.streams.app import create_app
from tillstream.streams.programs import read_shelf
from tillstream.streams.runtime import WorkerSettings
from tillstream.tls import kafka_security, kafka_settings

Role = Literal["points", "history", "offers", "models", "deliver"]
ROLES = get_args(Role)

METRICS: dict[Role, str] = {"offers": "offers_metrics", "deliver": "deliver_metrics"}
"""The setting that says where a role serves its figures to Prometheus."""


def worker_settings(config: Config) -> WorkerSettings:
    """The worker's part of the configuration.

    Raises:
        UsageError: `identity_key` is missing or of the wrong length.
    """
    check_identity_key(config)
    return WorkerSettings(**part_of(config, WorkerSettings), kafka_security=kafka_security(config))


def check_metrics_address(setting: str, address: str) -> None:
    """Raises UsageError where `address` (`host:port`, or empty) can't be listened on."""
    if not address:
        return
    host, _, port = address.rpartition(":")
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host.strip("[]"), int(port)))
            tried.listen()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{setting}: {address} can't be listened on: {reason}; name an address of this machine with a free port") from None


def run_worker(config: Config, role: Role) -> None:
    """Checks the servers, then works until it is told to stop."""
    targets = load_targets(config) if role == "deliver" else []
    seed = load_seed(config) if role == "points" else None
    settings = worker_settings(config)
    if role in METRICS:
        check_metrics_address(METRICS[role], getattr(config, METRICS[role]))
    check_servers(config, role)
    if role == "points" and seed is None and read_shelf(kafka_settings(config)).timetable() is None:
        raise UsageError("no program is published and the setting program is empty: tillstream program publish FILE")
    logging.getLogger("faust").setLevel(config.log_level.upper())
    app = create_app(settings, seed, role, targets)
    spare_the_collector()
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    faust.Worker(app, loglevel=config.log_level.upper(), redirect_stdouts=False, loop=loop).execute_from_commandline()
