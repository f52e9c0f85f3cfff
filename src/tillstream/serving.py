"""One gateway against the configured servers, until SIGTERM or Ctrl-C."""

import asyncio
import logging
import signal
from collections.abc import Callable
from ipaddress import ip_address
from ssl import SSLContext

import uvloop
from aiohttp import web

from tillstream.collector import spare_the_collector
from tillstream.config import Config, load_seed, part_of
from tillstream.errors import UsageError
from tillstream.gateway.app import create_app
from tillstream.gateway.limits import RatesInvalid, parse_rates
from tillstream.gateway.masking import mask_handlers
from tillstream.gateway.origins import OriginsInvalid, parse_origins
from tillstream.gateway.runtime import Gateway, GatewaySettings
from tillstream.gateway.spool import SpoolInUse
from tillstream.servers import check_identity_key, check_servers
from tillstream.streams.programs import NoProgram
from tillstream.tls import kafka_security, server_context

GRACE_MS = 1_000
"""Beyond the longest wait: requests in progress have their answers before the process ends."""


def gateway_settings(config: Config) -> GatewaySettings:
    """The gateway's part of the configuration.

    Raises:
        UsageError: `identity_key` is missing or of the wrong length; keys are off, and others than this machine could ask; rates or
            origins are none.
    """
    check_identity_key(config)
    if not config.gateway_auth and not is_loopback(config.gateway_host):
        where = f"gateway_host is {config.gateway_host}, which other machines may reach"
        raise UsageError(f"gateway_auth: keys are off, and {where}; turn them on, or listen on 127.0.0.1")
    try:
        parse_rates(config.gateway_rates)
    except RatesInvalid as error:
        raise UsageError(f"gateway_rates: {error}") from None
    try:
        parse_origins(config.gateway_origins)
    except OriginsInvalid as error:
        raise UsageError(f"gateway_origins: {error}") from None
    return GatewaySettings(**part_of(config, GatewaySettings), kafka_security=kafka_security(config))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name other than localhost may be anybody's.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "", "till.example")]
    [True, True, True, False, False, False, False]
    """
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def run_gateway(config: Config, say: Callable[[str], None]) -> None:
    """Checks the servers, then serves until it is told to stop; `say` gets the address.

    Raises:
        UsageError: a server is not there or not fit, nothing is published, or the port is taken.
    """
    seed = load_seed(config)
    settings, secure = gateway_settings(config), server_context(config)
    check_servers(config, "points")
    logging.basicConfig(level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    mask_handlers()
    spare_the_collector()
    uvloop.run(serve(settings, secure, seed, say))


async def serve(settings: GatewaySettings, secure: SSLContext | None, seed: str | None, say: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT; then takes no more connections, and ends when the requests in progress have their answers."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    grace_s = (settings.gateway_wait_ms_max + GRACE_MS) / 1000
    runner = web.AppRunner(create_app(Gateway(settings, seed)), access_log=None, shutdown_timeout=grace_s)
    try:
        await runner.setup()
        await web.TCPSite(runner, settings.gateway_host, settings.gateway_port, ssl_context=secure).start()
        say(f"serving on {address_of(runner, secure is not None)}; /docs tells what, Ctrl-C ends it")
        await told.wait()
    except NoProgram as error:
        raise UsageError(str(error)) from None
    except SpoolInUse as error:
        raise UsageError(f"spool_folder: {error}") from None
    except OSError as error:
        where = f"{settings.gateway_host}:{settings.gateway_port}"
        raise UsageError(f"gateway: cannot listen on {where}: {error.strerror}; change gateway_host or gateway_port") from None
    finally:
        await runner.cleanup()


def address_of(runner: web.AppRunner, secure: bool) -> str:
    """The URL of the first socket that a runner listens on."""
    host, port, *_ = runner.addresses[0]
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
