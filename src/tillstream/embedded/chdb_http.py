"""ClickHouse's HTTP interface, as much of it as our clients need, over chDB.

In: requests as clickhouse-connect, curl and ClickHouse's drivers send them. Out: what ClickHouse would answer.

Spoken: `GET` (reads only) and `POST /`, `/ping`; the statement in `query`, in the body, or in both, one after the
other; multipart forms with `query` and `param_x`; `param_x`, `database`, `default_format`, any setting; bodies in
lz4, zstd, gzip or deflate; `X-ClickHouse-Summary`, `-Query-Id`, `-Format`, `-Timezone`; errors as 4xx or 5xx with the
exception's text and `X-ClickHouse-Exception-Code`.

Not spoken: users and passwords (ignored: it listens on loopback only), sessions (`session_id` is ignored; SET, USE and
temporary tables are refused), external tables, compressed answers, ClickHouse's own compression (`compress=1`),
streaming: a result and a body are held in memory whole. A dropped connection does not cancel its statement.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import uuid
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web
from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]

from tillstream.embedded.chdb_engine import Engine, EngineError, Outcome, Request
from tillstream.embedded.process import HOST
from tillstream.embedded.statement import split

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor
else:
    from backports.zstd import ZstdDecompressor

# A body as it comes, and as unpacked: 100,000 wide rows take about 30 MB.
BODY_BYTES_MAX = 256 << 20
# ClickHouse's own http_max_uri_size: parameters such as arrays of identifiers travel in the URL.
URI_BYTES_MAX = 1 << 20
# An open request may end its statement; idle connections are closed at once.
SHUTDOWN_S_MAX = 2.0
# Parameters of the interface itself, and settings that mean nothing without a network or a session. Not set on chDB.
INTERFACE_PARAMETERS = frozenset(
    {
        *("query", "database", "default_format", "user", "password", "quota_key", "query_id", "role", "stacktrace"),
        *("compress", "decompress", "buffer_size", "wait_end_of_query", "client_protocol_version"),
        *("session_id", "session_timeout", "session_check", "close_session", "enable_http_compression"),
        *("send_progress_in_http_headers", "http_headers_progress_interval_ms"),
        "cancel_http_readonly_queries_on_client_close",
    }
)
# Which HTTP status ClickHouse gives to which exception; all others are 500.
STATUS_OF_CODE = {
    **dict.fromkeys((6, 25, 26, 27, 36, 38, 41, 42, 43, 53, 62, 69, 70, 72, 117, 130), 400),
    **dict.fromkeys((16, 46, 47, 50, 56, 60, 63, 73, 81, 115), 404),
    164: 403,
    48: 501,
    202: 503,
}
CONTENT_TYPE = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8",
    "JSON": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
}
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost"})
INSTANCE_HEADER = "X-Tillstream-Instance"


class Decompressor(Protocol):
    """What the compression libraries agree on."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """At most `max_length` bytes of the unpacked data."""

    @property
    def eof(self) -> bool:
        """Whether the end of the frame was reached."""

    @property
    def unused_data(self) -> bytes | None:
        """What follows the frame."""


DECOMPRESSORS: dict[str, Callable[[], Decompressor]] = {
    "lz4": LZ4FrameDecompressor,
    "zstd": ZstdDecompressor,
    "gzip": lambda: zlib.decompressobj(zlib.MAX_WBITS | 32),
    "deflate": lambda: zlib.decompressobj(zlib.MAX_WBITS | 32),
}


def unpacked(body: bytes, encoding: str) -> bytes:
    """The body without its Content-Encoding; EngineError where that is unknown, the data broken, or too long."""
    if encoding in ("", "identity"):
        return body
    if encoding not in DECOMPRESSORS:
        raise EngineError(f"Code: 48. DB::Exception: Unknown Content-Encoding '{encoding}'. (NOT_IMPLEMENTED)")
    data = bytearray()
    rest = body
    try:
        # clickhouse-connect packs each block of rows as a frame of its own, and frames follow one another.
        while rest:
            decompressor = DECOMPRESSORS[encoding]()
            data += decompressor.decompress(rest, BODY_BYTES_MAX - len(data) + 1)
            if not decompressor.eof or len(data) > BODY_BYTES_MAX:
                raise EngineError("Code: 36. DB::Exception: The body is cut off or exceeds 256 MiB. (BAD_ARGUMENTS)")
            rest = decompressor.unused_data or b""
    except EngineError:
        raise
    except Exception as error:
        # Each library raises errors of its own, derived from nothing in common.
        raise EngineError(f"Code: 271. DB::Exception: {encoding}: {error}. (CANNOT_DECOMPRESS)") from error
    return bytes(data)


async def read_request(http: web.Request) -> Request:
    """The statement, database, settings and parameters of an HTTP request; EngineError where it asks too much."""
    options = dict(http.query)
    if http.content_type == "multipart/form-data":
        for name, value in (await http.post()).items():
            if not isinstance(value, str):
                raise EngineError("Code: 48. DB::Exception: External tables are not spoken. (NOT_IMPLEMENTED)")
            options[name] = value
        body = b""
    else:
        body = unpacked(await http.read(), http.headers.get("Content-Encoding", "").lower())
    for name in ("compress", "decompress"):
        if options.get(name, "0") not in ("0", "false"):
            raise EngineError(f"Code: 48. DB::Exception: Parameter {name} is not spoken. (NOT_IMPLEMENTED)")
    query = options.get("query", "").rstrip().encode()
    return Request(
        split(query + b"\n" + body if query and body else query or body),
        database=options.get("database") or http.headers.get("X-ClickHouse-Database") or "default",
        settings={
            name: value
            for name, value in options.items()
            if name not in INTERFACE_PARAMETERS and not name.startswith("param_")
        },
        parameters={name[6:]: value for name, value in options.items() if name.startswith("param_")},
        default_format=options.get("default_format") or http.headers.get("X-ClickHouse-Format") or "TabSeparated",
    )


def summary(outcome: Outcome) -> str:
    """ClickHouse's X-ClickHouse-Summary: an object of numbers written as texts."""
    return json.dumps(
        {
            "read_rows": str(outcome.read_rows),
            "read_bytes": str(outcome.read_bytes),
            "written_rows": str(outcome.written_rows),
            "written_bytes": str(outcome.written_bytes),
            "total_rows_to_read": "0",
            "result_rows": str(outcome.result_rows),
            "result_bytes": str(len(outcome.body)),
            "elapsed_ns": str(outcome.elapsed_ns),
        },
        separators=(",", ":"),
    )


class Face:
    """The HTTP handlers over one engine; `instance` is told by /ping, so that a probe knows whom it met."""

    def __init__(self, engine: Engine, instance: str) -> None:
        self._engine = engine
        self._instance = instance

    def application(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[refuse_browsers])
        application.router.add_get("/ping", self.ping)
        application.router.add_route("GET", "/", self.run)
        application.router.add_route("POST", "/", self.run)
        return application

    async def ping(self, _http: web.Request) -> web.Response:
        """ClickHouse's sign of life."""
        return web.Response(text="Ok.\n", headers={INSTANCE_HEADER: self._instance})

    async def run(self, http: web.Request) -> web.Response:
        """One statement: its result, or its exception as ClickHouse answers it."""
        headers = {
            "X-ClickHouse-Query-Id": http.query.get("query_id") or str(uuid.uuid4()),
            "X-ClickHouse-Server-Display-Name": "tillstream-embedded",
            "X-ClickHouse-Timezone": "UTC",
        }
        try:
            request = await read_request(http)
            if not request.statement.words[0]:
                return web.Response(text="Ok.\n")
            outcome = await self._engine.run(request, read_only=http.method in ("GET", "HEAD"))
        except EngineError as error:
            headers["X-ClickHouse-Exception-Code"] = str(error.code)
            return web.Response(status=STATUS_OF_CODE.get(error.code, 500), text=f"{error}\n", headers=headers)
        headers["X-ClickHouse-Summary"] = summary(outcome)
        if outcome.body:
            output_format = request.statement.output_format(request.default_format)
            headers["X-ClickHouse-Format"] = output_format
            headers["Content-Type"] = CONTENT_TYPE.get(output_format, "application/octet-stream")
        return web.Response(body=outcome.body, headers=headers)


@web.middleware
async def refuse_browsers(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer no web page: it could reach this port from a browser on this machine, and nobody asks for a password."""
    if "Origin" in request.headers or request.host.rsplit(":", 1)[0] not in LOOPBACK_NAMES:
        return web.Response(status=403, text="This server answers programs on this machine only.\n")
    return await handler(request)


async def serve(path: Path, port: int, instance: str) -> None:
    """Serve the chDB folder on 127.0.0.1 until SIGTERM or SIGINT; OSError where the port is taken."""
    engine = Engine(path)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    limits: dict[str, Any] = {"max_line_size": URI_BYTES_MAX, "auto_decompress": False}
    runner = web.AppRunner(
        Face(engine, instance).application(), access_log=None, shutdown_timeout=SHUTDOWN_S_MAX, **limits
    )
    try:
        await runner.setup()
        await web.TCPSite(runner, HOST, port).start()
        await stopped.wait()
    finally:
        await runner.cleanup()
        engine.close()
