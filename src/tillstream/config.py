"""The configuration: one frozen object, from defaults, then `tillstream.toml`, then `TILLSTREAM_*` variables, parsed once at the edge."""

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tillstream.errors import ProgramError, UsageError
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.program_file import InvalidProgram, Versioned, parse_program

CONFIG_FILE = "tillstream.toml"
ENVIRONMENT_PREFIX = "TILLSTREAM_"

SEE = "the settings are listed in docs/configuration.md"

Count = Annotated[int, Meta(ge=1)]

CountOrNone = Annotated[int, Meta(ge=0)]

Port = Annotated[int, Meta(ge=0, le=65_535)]

MetricsAddress = Annotated[str, Meta(pattern=r"^(\S+:[0-9]{1,5})?$")]

Region = Annotated[str, Meta(pattern="^([A-Z]{2})?$")]


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """Every setting; `TILLSTREAM_<NAME>` in the environment overrides `<name>` in `tillstream.toml`.

    Attributes:
        kafka: bootstrap servers, `host:port[,host:port]`.
        kafka_transactions: whether ledger and offsets go in one Kafka transaction; off only for the embedded broker, which has none.
        redis: `redis://`, or, for Redis Cluster, `redis+cluster://` URL; `rediss://` and `rediss+cluster://` with TLS.
        clickhouse: `http://` or `https://` address with an optional database as path.
        kafka_properties: file of librdkafka's settings of security for every client, `name=value` a line; empty: none.
        redis_ca: PEM file of authorities for `rediss://`; empty: those that the system trusts.
        clickhouse_ca: PEM file of authorities for `https://`; empty: those that the system trusts.
        program: path of the program file that a worker publishes where no program is published yet; empty: there must be one.
        identity_key: secret under which card numbers, phones and e-mail addresses are hashed; at least 16 characters, never changed.
        phone_region: country (ISO 3166, as `PL`) of phone numbers without a country code; empty: they have one; never changed.
        partitions: partitions of `transactions` and `ledger`; permanent per installation.
        replication: copies that Kafka keeps of each topic created by us.
        session_ms: after this silence Kafka gives a worker's partitions to another, milliseconds.
        poll_interval_ms: the longest that one batch may take, milliseconds.
        batch_rows_max: records in one fetched batch at most.
        receipt_window_days: receipts stay in Redis this long after the newest one of their partition; older ones are found in ClickHouse.
        history_rows: records per ClickHouse block at most.
        gateway_host: address on which a gateway listens; loopback unless told otherwise.
        gateway_port: its port; 0: a free one.
        gateway_body_bytes_max: the longest body of a request, bytes.
        gateway_wait_ms: how long an answer waits for the worker where the caller does not say, milliseconds.
        gateway_wait_ms_max: how long a caller may wait at most, milliseconds.
        sources: folder of the mapping files that `ingest --source` knows by name.
        ingest_state: folder where `ingest` keeps how far each file is.
        gateway_tls_cert: PEM file of the certificate, and those between it and an authority; with it a gateway speaks https.
        gateway_tls_key: PEM file of its key.
        gateway_auth: whether requests need a key; off only on loopback.
        gateway_rates: requests of one key by its scope, `scope=per_second/at_once`, parted by blanks; a scope left out has no limit.
        gateway_replay_window_s: how far a signed request's time may be from the gateway's, seconds.
        gateway_snapshot_s_max: how old the snapshot may be by which a gateway quotes while Redis is away, seconds; 0: it gives none.
        spool_folder: folder where a gateway keeps receipts while Kafka is away, one gateway each; empty: none.
        spool_bytes_max: how much it may hold, bytes.
        gateway_origins: origins whose pages may send page views, as `https://shop.example.org`, parted by blanks; empty: none.
        gateway_pages_max: streams of offers to pages at once, of one gateway.
        visitor_events_max: page views of one visitor in a minute that count for features and offers; more are left out.
        endpoints: path of the file that says where triggers are delivered to; required by the role `deliver`.
        deliver_private: whether endpoints may be at private addresses, loopback among them, and without TLS.
        deliver_metrics: `host:port` on which the role `deliver` serves its figures to Prometheus; empty: nowhere.
        offers_metrics: the same for the role `offers`.
        log_level: `debug`, `info`, `warning` or `error`.
    """

    kafka: str = "127.0.0.1:9092"
    kafka_transactions: bool = True
    redis: str = "redis://127.0.0.1:6379/0"
    clickhouse: str = "http://127.0.0.1:8123"
    kafka_properties: str = ""
    redis_ca: str = ""
    clickhouse_ca: str = ""
    program: str = "program.toml"
    identity_key: str = ""
    phone_region: Region = ""
    partitions: Count = 32
    replication: Count = 1
    session_ms: Count = 10_000
    poll_interval_ms: Count = 60_000
    batch_rows_max: Count = 1_000
    receipt_window_days: Count = 90
    history_rows: Count = 10_000
    gateway_host: str = "127.0.0.1"
    gateway_port: Port = 8080
    gateway_body_bytes_max: Count = 4_000_000
    gateway_wait_ms: Count = 500
    gateway_wait_ms_max: Count = 10_000
    sources: str = "sources"
    ingest_state: str = "ingest"
    gateway_tls_cert: str = ""
    gateway_tls_key: str = ""
    gateway_auth: bool = True
    gateway_rates: str = "till=50/500 read=50/200 clicks=500/2000 campaigns=10/50 members=20/100 admin=20/100"
    gateway_replay_window_s: Count = 300
    gateway_snapshot_s_max: CountOrNone = 86_400
    spool_folder: str = ""
    spool_bytes_max: Count = 1_000_000_000
    gateway_origins: str = ""
    gateway_pages_max: Count = 1_000
    visitor_events_max: Count = 120
    endpoints: str = ""
    deliver_private: bool = False
    deliver_metrics: MetricsAddress = ""
    offers_metrics: MetricsAddress = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def part_of(config: Config, settings: type[Struct]) -> dict[str, Any]:
    """The settings that a worker or a gateway has under the same names."""
    return {name: getattr(config, name) for name in settings.__struct_fields__ if name in Config.__struct_fields__}


def load_config(environment: Mapping[str, str] | None = None, folder: Path | None = None) -> Config:
    """The configuration of this process.

    Raises:
        UsageError: a setting is unknown or ill-typed; the message names it and where it came from.
    """
    environment = os.environ if environment is None else environment
    path = (folder or Path()) / CONFIG_FILE
    values = read_settings(path) if path.is_file() else {}
    origin = dict.fromkeys(values, str(path))
    for variable, text in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX):
            name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
            values[name], origin[name] = text, variable
    for name in values.keys() - set(Config.__struct_fields__):
        near = difflib.get_close_matches(name, Config.__struct_fields__, n=1)
        hint = f"did you mean {near[0]!r}?" if near else SEE
        raise UsageError(f"{origin[name]}: no setting is called {name!r}; {hint}")
    try:
        return msgspec.convert(values, Config, strict=False)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$.")
        name = where.rstrip("`")
        source = origin.get(name, "")
        # A variable carries the setting's name already, a file does not.
        prefix = f"{source}: {name}" if source == str(path) else source
        raise UsageError(f"{prefix}: {message}; {SEE}") from None


def read_settings(path: Path) -> dict[str, Any]:
    """What a settings file says.

    Raises:
        UsageError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # Not TOML, or not even text.
        raise UsageError(f"{path}: not TOML: {error}") from None


def load_program(path: str) -> Versioned:
    """The program file at `path`.

    Raises:
        UsageError: there is no such file, or it is not text.
        ProgramError: with every mistake in it.
    """
    return read_program(path)[0]


def load_seed(config: Config) -> str | None:
    """The text of the configured program file, checked; None where the setting is empty.

    Raises:
        UsageError, ProgramError: as `load_program`.
    """
    return read_program(config.program)[1] if config.program else None


def read_program(path: str) -> tuple[Versioned, str]:
    """The program file at `path`, parsed and as it stands.

    Raises:
        UsageError, ProgramError: as `load_program`.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return parse_program(text), text
    except OSError as error:
        raise UsageError(f"program {path!r}: {error.strerror}; name a file with --program or the setting `program`") from None
    except UnicodeDecodeError:
        raise UsageError(f"program {path!r}: not UTF-8 text") from None
    except InvalidProgram as invalid:
        raise ProgramError(path, invalid) from None


def load_timetable(paths: Sequence[str]) -> Timetable:
    """The programs in several files, versions of one or side by side.

    Raises:
        UsageError: as `load_program`.
        ProgramError: with every mistake in a file, or what the files do not agree on.
    """
    programs = [load_program(path) for path in paths]
    try:
        return Timetable(programs)
    except InvalidProgram as invalid:
        raise ProgramError(" and ".join(paths), invalid) from None
