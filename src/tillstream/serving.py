"""One gateway against the configured servers, until SIGTERM or Ctrl-C."""

import asyncio
import logging
import signal
from collections.abc import Callable

import uvloop
from aiohttp import web

from tillstream.config import Config, load_seed
from tillstream.errors import UsageError
from tillstream.gateway.app import create_app
from tillstream.gateway.origins import OriginsInvalid, parse_origins
from tillstream.gateway.runtime import Gateway, GatewaySettings
from tillstream.servers import check_identity_key, check_servers
from tillstream.streams.programs import NoProgram

GRACE_MS = 1_000
"""Beyond the longest wait: requests in progress have their answers before the process ends."""


def gateway_settings(config: Config) -> GatewaySettings:
    """The gateway's part of the configuration.

    Raises:
        UsageError: `identity_key` is missing or of the wrong length, or `gateway_origins` are none.
    """
    check_identity_key(config)
    try:
        parse_origins(config.gateway_origins)
    except OriginsInvalid as error:
        raise UsageError(f"gateway_origins: {error}") from None
    return GatewaySettings(**{name: getattr(config, name) for name in GatewaySettings.__struct_fields__})


def run_gateway(config: Config, say: Callable[[str], None]) -> None:
    """Checks the servers, then serves until it is told to stop; `say` gets the address.

    Raises:
        UsageError: a server is not there or not fit, nothing is published, or the port is taken.
    """
    seed = load_seed(config)
    settings = gateway_settings(config)
    check_servers(config, "points")
    logging.basicConfig(level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    uvloop.run(serve(settings, seed, say))


async def serve(settings: GatewaySettings, seed: str | None, say: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT; then takes no more connections, and ends when the requests in progress have their answers."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    grace_s = (settings.gateway_wait_ms_max + GRACE_MS) / 1000
    runner = web.AppRunner(create_app(Gateway(settings, seed)), access_log=None, shutdown_timeout=grace_s)
    try:
        await runner.setup()
        await web.TCPSite(runner, settings.gateway_host, settings.gateway_port).start()
        say(f"serving on {address_of(runner)}; /docs tells what, Ctrl-C ends it")
        await told.wait()
    except NoProgram as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        where = f"{settings.gateway_host}:{settings.gateway_port}"
        raise UsageError(f"gateway: cannot listen on {where}: {error.strerror}; change gateway_host or gateway_port") from None
    finally:
        await runner.cleanup()


def address_of(runner: web.AppRunner) -> str:
    """The URL of the first socket that a runner listens on."""
    host, port, *_ = runner.addresses[0]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
