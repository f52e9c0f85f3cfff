"""The connection to ClickHouse and the tables in it.

In: a DSN, and the numbered files of sinks/migrations. Out: a client, a database in which each of those files has run,
and blocks of rows in it. A server, the embedded one and chDB in this process (`chdb:///path`) differ by the DSN only.
"""

import re
import socket
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.binding import quote_identifier
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

SETTING = "clickhouse"
"""The configuration's field that holds the DSN."""

SCHEMES = ("http", "https", "chdb")

CONNECT_S_MAX = 5
"""A server on the same network answers in milliseconds; longer than this and a person wants to be told."""

ANSWER_S_MAX = 300
"""A year's report over a large history takes a minute; beyond five, something hangs."""

REASON_CHARS_MAX = 200
"""The driver quotes whole queries in its errors; a person needs the first line."""

UNKNOWN_DATABASE = 81
"""ClickHouse's code for a database that is not there."""

LOW_CARDINALITY = re.compile(r"LowCardinality\((\w+(?:\(\w+\))?)\)")
MIGRATION_NAME = re.compile(r"(\d{4})_\w+\.sql")
TOKEN = re.compile(
    r"--[^\n]*|/\*.*?\*/|`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|;|[^-/`\"';]+|.", re.DOTALL
)

MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    number UInt32 COMMENT 'Number of the file',
    name String COMMENT 'Name of the file',
    digest String COMMENT 'Hash of its text',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it had run to its end'
)
ENGINE = ReplacingMergeTree
ORDER BY number
COMMENT 'The migrations that have run; read with FINAL'
"""


class Unreachable(Exception):
    """ClickHouse does not answer at `address`; `setting` is the configuration's field to change."""

    def __init__(self, address: str, reason: str) -> None:
        fix = f"start it or change the setting {SETTING}"
        super().__init__(f"ClickHouse does not answer at {address} ({reason}); {fix}")
        self.address = address
        self.setting = SETTING


class MigrationChanged(Exception):
    """A migration that has run is not the one that is installed; the tables are of another version of tillstream."""

    def __init__(self, name: str) -> None:
        fix = "use the tillstream that wrote this database, or an empty database"
        super().__init__(f"migration {name} has run with another text; {fix}")
        self.name = name


class Migration(NamedTuple):
    """One numbered file."""

    number: int
    name: str
    text: str

    @property
    def digest(self) -> str:
        """Hash of the text."""
        return blake2b(self.text.encode(), digest_size=16).hexdigest()


def connect(dsn: str, ca: str = "") -> Client:
    """A client for `http://host:port/database`, `https://...` or `chdb:///path?database=...`; no database is `default`.

    `ca`: a PEM file of the authorities that an https server's certificate is checked by; '': those that the system trusts.
    A missing database is created. The client keeps no session, so that threads can share it.

    Raises:
        Unreachable: nobody answers, the answer is not ClickHouse's, or the DSN is none.
    """
    parts = urlsplit(dsn)
    try:
        knock(parts)
        try:
            return open_client(dsn, ca)
        except DatabaseError as error:
            if error.code != UNKNOWN_DATABASE:
                raise
        create_database(parts, ca)
        return open_client(dsn, ca)
    except (ClickHouseError, OSError, ValueError, ImportError, RuntimeError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise Unreachable(address_of(parts), reason[:REASON_CHARS_MAX]) from None


def knock(parts: SplitResult) -> None:
    """Opens and closes a TCP connection: the driver would retry, and log, before it says that nobody is there."""
    if parts.scheme not in SCHEMES:
        raise ValueError(f"a DSN begins with {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    if parts.scheme != "chdb":
        port = parts.port or (8443 if parts.scheme == "https" else 8123)
        socket.create_connection((parts.hostname or "127.0.0.1", port), CONNECT_S_MAX).close()


def open_client(dsn: str, ca: str) -> Client:
    """The driver's client, with our bounds."""
    if dsn.startswith("chdb:"):
        return clickhouse_connect.get_client(dsn=dsn)
    return clickhouse_connect.get_client(
        dsn=dsn,
        autogenerate_session_id=False,
        connect_timeout=CONNECT_S_MAX,
        send_receive_timeout=ANSWER_S_MAX,
        # By itself the driver goes by the port: of https it takes no notice but on 443 and 8443.
        secure=dsn.startswith("https:"),
        ca_cert=ca or None,
    )


def create_database(parts: SplitResult, ca: str) -> None:
    """Creates the database that a DSN names: an http path, or `?database=` of chDB, whose path is a folder."""
    if parts.scheme == "chdb":
        name, there = parse_qs(parts.query)["database"][0], parts._replace(query="")
    else:
        name, there = unquote(parts.path).strip("/"), parts._replace(path="")
    client = open_client(there.geturl(), ca)
    client.command(f"CREATE DATABASE IF NOT EXISTS {quote_identifier(name)}")
    client.close()


def address_of(parts: SplitResult) -> str:
    """The DSN without what may be a secret: user, password, parameters."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class Inserter:
    """Inserts rows as blocks. One thread at a time."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._types: dict[str, list[str]] = {}

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], token: str) -> None:
        """One block of `rows`, each in the order of `columns`; ClickHouse drops it where it had `token` already.

        Raises:
            clickhouse_connect's DatabaseError: the block is not there, or no answer came; insert it again.
        """
        if table not in self._types:
            types = self.client.create_insert_context(table, columns).column_types
            # Sent as plain strings, of which the server makes its dictionaries much faster than the driver would.
            self._types[table] = [LOW_CARDINALITY.sub(r"\1", column.name) for column in types]
        self.client.insert(
            table,
            list(zip(*rows, strict=True)),
            column_names=columns,
            column_type_names=self._types[table],
            column_oriented=True,
            # A block of old data may span many months; ClickHouse's limit of 100 is against mistakes.
            settings={"insert_deduplication_token": token, "max_partitions_per_insert_block": 0},
        )


def migrate(client: Client) -> list[str]:
    """Runs the migrations that have not run, in the order of their numbers; gives their names.

    Every statement in a migration can be repeated (CREATE ... IF NOT EXISTS), because ClickHouse has neither
    transactions nor locks: what was cut short is run again from its first statement, and two processes may run the
    same file at the same time.

    Raises:
        MigrationChanged: a file that has run is not the one that is installed.
        clickhouse_connect's DatabaseError: a statement failed.
    """
    client.command(MIGRATIONS_TABLE)
    rows = client.query("SELECT number, digest FROM schema_migrations FINAL").result_rows
    done: dict[int, str] = {row[0]: row[1] for row in rows}
    names = []
    for migration in migrations():
        if migration.number in done:
            if done[migration.number] != migration.digest:
                raise MigrationChanged(migration.name)
            continue
        for statement in statements(migration.text):
            client.command(statement)
        row = (migration.number, migration.name, migration.digest)
        client.insert("schema_migrations", [row], column_names=["number", "name", "digest"])
        names.append(migration.name)
    return names


def migrations() -> list[Migration]:
    """The installed migrations, in order."""
    found = []
    for file in files("tillstream.sinks.migrations").iterdir():
        if (match := MIGRATION_NAME.fullmatch(file.name)) is not None:
            found.append(Migration(int(match[1]), file.name, file.read_text(encoding="utf-8")))
    return sorted(found)


def statements(text: str) -> Iterator[str]:
    """The statements of an SQL text, without comments; a semicolon inside quotes does not end one.

    >>> list(statements("SELECT ';' -- one; two\\n; /* ; */ SELECT 2"))
    ["SELECT ';'", 'SELECT 2']
    """
    words: list[str] = []
    for token in [*(match[0] for match in TOKEN.finditer(text)), ";"]:
        if token == ";":
            statement = "".join(words).strip()
            words.clear()
            if statement:
                yield statement
        elif not token.startswith(("--", "/*")):
            words.append(token)
