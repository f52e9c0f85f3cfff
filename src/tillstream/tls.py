"""Encrypted connections as the configuration wants them: what librdkafka is told beside addresses, what the gateway serves with."""

import ssl
from pathlib import Path

from tillstream.config import Config
from tillstream.errors import UsageError

SECURITY = ("security.", "ssl.", "sasl.", "enable.ssl.")
"""What names in `kafka_properties` may begin with: everything else of a client is ours to choose, and what we promise rests on it."""


def kafka_settings(config: Config) -> dict[str, str]:
    """librdkafka's settings for every client of the configured Kafka.

    Raises:
        UsageError: as `kafka_security`.
    """
    return {"bootstrap.servers": config.kafka, **kafka_security(config)}


def kafka_security(config: Config) -> dict[str, str]:
    """What the file `kafka_properties` says; nothing where there is none.

    Raises:
        UsageError: it cannot be read, or has a line that is no setting of security.
    """
    if not config.kafka_properties:
        return {}
    path = config.kafka_properties
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(path, "kafka_properties").splitlines(), 1):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not line.strip() or name.startswith("#"):
            continue
        if not equals or not name.startswith(SECURITY):
            beginnings = ", ".join(SECURITY)
            raise UsageError(f"kafka_properties: {path}, line {number}: {name!r} is no name=value that begins with {beginnings}")
        found[name] = value
    return found


def server_context(config: Config) -> ssl.SSLContext | None:
    """What the gateway speaks https with; None: it speaks http.

    Raises:
        UsageError: one of certificate and key is missing, can't be read, or they do not belong together.
    """
    if not config.gateway_tls_cert and not config.gateway_tls_key:
        return None
    if not (config.gateway_tls_cert and config.gateway_tls_key):
        raise UsageError("gateway_tls_cert and gateway_tls_key go together; set both, or none")
    for setting in ("gateway_tls_cert", "gateway_tls_key"):
        read_text(getattr(config, setting), setting)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.gateway_tls_cert, config.gateway_tls_key)
    except (ssl.SSLError, OSError) as error:
        pair = f"{config.gateway_tls_cert} and {config.gateway_tls_key}"
        raise UsageError(f"gateway_tls_cert: {pair} are no certificate and its key: {error}") from None
    return context


def check_authorities(config: Config) -> None:
    """Raises UsageError where a file of authorities can't be read, or is none."""
    for setting in ("redis_ca", "clickhouse_ca"):
        path = getattr(config, setting)
        if not path:
            continue
        try:
            ssl.create_default_context(cadata=read_text(path, setting))
        except ssl.SSLError:
            raise UsageError(f"{setting}: {path}: no certificate in PEM form") from None


def read_text(path: str, setting: str) -> str:
    """A file that a setting names.

    Raises:
        UsageError: it can't be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise UsageError(f"{setting}: {path}: {reason}") from None
