"""ClickHouse in this process: statements in, bytes of ClickHouse's formats out, over chDB.

chDB allows one process per folder, any number of connections in it, and each connection one statement at a time. Two
connections, each with its own thread, are enough: one for statements that read, one for all others. So an analyst's
long query does not hold up a worker's inserts, and writes are in one order.

A connection keeps settings and the current database, as a session does; a request over HTTP brings its own. So a lane
remembers what it set, and before each statement sets what differs.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chdb.state

from tillstream.embedded.statement import Statement

# Waiting statements per lane. Each holds its request's body in memory; our own clients number a dozen.
WAITING_MAX = 64
TOO_MANY_SIMULTANEOUS_QUERIES = 202
NOT_IMPLEMENTED = 48
READONLY = 164
# Data of an INSERT is handed to the engine in pieces of this size, of which it copies each.
INSERT_PIECE_BYTES = 1 << 20
SETTING_NAME = re.compile(r"[A-Za-z_]\w*")
ERROR_CODE = re.compile(r"Code: (\d+)\.")
# They would change the connection for everybody who comes after.
SESSION_WORDS = frozenset({b"SET", b"USE"})


class EngineError(Exception):
    """A statement failed; the message is ClickHouse's own, `code` its number (0 where it gave none)."""

    def __init__(self, message: str, code: int | None = None) -> None:
        found = ERROR_CODE.search(message)
        super().__init__(message[found.start() :] if found else message)
        self.code = code if code is not None else int(found[1]) if found else 0


@dataclass(frozen=True, slots=True)
class Request:
    """One statement with all that a ClickHouse request brings along; values are texts, as in a URL."""

    statement: Statement
    database: str = "default"
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    default_format: str = "TabSeparated"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result's bytes, and counts for ClickHouse's summary; `elapsed_ns` excludes the wait for its turn."""

    body: bytes
    read_rows: int
    read_bytes: int
    written_rows: int
    written_bytes: int
    result_rows: int
    elapsed_ns: int


def quoted(value: str) -> str:
    """A string literal of ClickHouse's SQL; it turns into a number where a setting wants one."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Lane:
    """One connection, its one thread, and what was set on it."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = str(path)
        self._connection: Any = chdb.state.connect(self._path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"chdb-{name}")
        self._waiting = 0
        self._settings: dict[str, str] = {}
        self._database = "default"

    async def run(self, request: Request) -> Outcome:
        """Run one statement when its turn comes; EngineError where it fails or too many wait."""
        if self._waiting >= WAITING_MAX:
            raise EngineError(
                f"Code: {TOO_MANY_SIMULTANEOUS_QUERIES}. DB::Exception: {WAITING_MAX} statements wait already. "
                "(TOO_MANY_SIMULTANEOUS_QUERIES)"
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, request)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Finish what runs, then close the connection."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._connection.close()

    def _run(self, request: Request) -> Outcome:
        started = time.monotonic_ns()
        try:
            self._prepare(request)
            if request.statement.input_format is not None:
                return self._insert(request.statement, started)
            result = self._connection.query(
                request.statement.sql, request.default_format, params=dict(request.parameters)
            )
        except (RuntimeError, UnicodeDecodeError) as error:
            raise EngineError(str(error)) from error
        return Outcome(
            body=result.bytes(),
            read_rows=result.storage_rows_read(),
            read_bytes=result.storage_bytes_read(),
            written_rows=result.rows_written(),
            written_bytes=result.bytes_written(),
            result_rows=result.rows_read(),
            elapsed_ns=time.monotonic_ns() - started,
        )

    def _insert(self, statement: Statement, started: int) -> Outcome:
        """Hand the data over as the bytes they are: chDB parses them as the server would, no temporary file."""
        data = memoryview(statement.data)
        with self._connection.send_insert(statement.sql.decode(), statement.input_format) as stream:
            for start in range(0, len(data), INSERT_PIECE_BYTES):
                stream.append(data[start : start + INSERT_PIECE_BYTES])
            result = stream.finish()
        elapsed_ns = time.monotonic_ns() - started
        return Outcome(b"", 0, 0, result.rows_written, result.bytes_written, 0, elapsed_ns)

    def _prepare(self, request: Request) -> None:
        """Bring the connection's database and settings to what the request asks for."""
        for name in request.settings:
            if SETTING_NAME.fullmatch(name) is None:
                raise EngineError(f"Code: 115. DB::Exception: Unknown setting {quoted(name)}. (UNKNOWN_SETTING)")
        try:
            self._apply(request)
        except RuntimeError:
            # Some settings cannot be taken back (readonly, allow_ddl), so what failed may be an earlier request's
            # doing. A new connection knows nothing of it; opened before the old one closes, the engine stays up.
            fresh = chdb.state.connect(self._path)
            self._connection.close()
            self._connection, self._settings, self._database = fresh, {}, "default"
            self._apply(request)

    def _apply(self, request: Request) -> None:
        if request.database != self._database:
            self._connection.query(f"USE `{request.database.replace('`', '``')}`")
            self._database = request.database
        stale = [name for name in self._settings if name not in request.settings]
        if stale:
            self._connection.query("SET " + ", ".join(f"{name} = DEFAULT" for name in stale))
            for name in stale:
                del self._settings[name]
        changed = {name: value for name, value in request.settings.items() if self._settings.get(name) != value}
        if changed:
            self._connection.query("SET " + ", ".join(f"{name} = {quoted(value)}" for name, value in changed.items()))
            self._settings.update(changed)


class Engine:
    """A chDB folder, opened by this process alone."""

    def __init__(self, path: Path) -> None:
        self._reads = Lane(path, "read")
        self._writes = Lane(path, "write")

    async def run(self, request: Request, read_only: bool = False) -> Outcome:
        """Run one statement; EngineError with ClickHouse's message and code where it fails."""
        statement = request.statement
        first, second = statement.words
        if first in SESSION_WORDS or (first, second) == (b"CREATE", b"TEMPORARY"):
            raise EngineError(
                f"Code: {NOT_IMPLEMENTED}. DB::Exception: {first.decode()} needs a session, and this server keeps "
                "none: send settings and database with each request. (NOT_IMPLEMENTED)"
            )
        if read_only and not statement.reads:
            raise EngineError(
                f"Code: {READONLY}. DB::Exception: Cannot execute query in readonly mode. For queries over HTTP, "
                "method GET implies readonly. Use POST for modifying queries. (READONLY)"
            )
        return await (self._reads if statement.reads else self._writes).run(request)

    def close(self) -> None:
        """Finish what runs, then release the folder."""
        self._writes.close()
        self._reads.close()
