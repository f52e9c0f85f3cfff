"""The embedded ClickHouse, spoken to as clients speak to the real one: clickhouse-connect, and bare HTTP."""

import gzip
import http.client
import json
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tillstream.embedded.clickhouse import ClickHouse
from tillstream.embedded.statement import split

BERLIN = ZoneInfo("Europe/Berlin")
COLUMNS = ["id", "kind", "day", "at", "tags", "note", "version"]
TABLE = """CREATE TABLE {name} (
    id UInt64, kind LowCardinality(String), day Date, at DateTime64(3, 'Europe/Berlin'), tags Array(String),
    note Nullable(String), version UInt32
) ENGINE = {engine} ORDER BY id SETTINGS non_replicated_deduplication_window = 100"""


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    with ClickHouse() as address:
        yield address


@pytest.fixture
def client(dsn: str) -> Iterator[Any]:
    """A client on an empty database of its own, as clickhouse-connect makes it for a real server."""
    url = urlsplit(dsn)
    with clickhouse_connect.get_client(dsn=dsn) as admin:
        admin.command("DROP DATABASE IF EXISTS mine")
        admin.command("CREATE DATABASE mine")
    with clickhouse_connect.get_client(host=url.hostname or "", port=url.port or 0, database="mine") as made:
        yield made


def rows(count: int, version: int = 1) -> list[list[Any]]:
    start = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    return [
        [
            *(number, f"k{number % 7}", date(2026, 1, 1) + timedelta(days=number % 300)),
            *(start + timedelta(milliseconds=number), ["a", f"b{number}"], None if number % 2 else "ä", version),
        ]
        for number in range(count)
    ]


def ask(dsn: str, method: str, body: bytes = b"", headers: dict[str, str] | None = None, **query: str) -> Any:
    """One bare request: (status, headers, body)."""
    connection = http.client.HTTPConnection(urlsplit(dsn).netloc, timeout=30)
    try:
        connection.request(method, "/?" + urlencode(query), body or None, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_insert_of_several_blocks_arrives_whole_and_once(client: Any) -> None:
    client.command(TABLE.format(name="lines", engine="MergeTree"))
    sent = rows(100_000)
    for token, expected in (("t:0:1-9", 100_000), ("t:0:1-9", 100_000), ("t:0:10-19", 200_000)):
        client.insert("lines", sent, COLUMNS, settings={"insert_deduplication_token": token})
        assert client.command("SELECT count() FROM lines") == expected
    assert client.query("SELECT sum(id), uniqExact(tags[2]) FROM lines").result_rows == [(9_999_900_000, 100_000)]


def test_values_come_back_as_they_went(client: Any) -> None:
    client.command(TABLE.format(name="lines", engine="MergeTree"))
    client.insert("lines", rows(3), COLUMNS)
    got = client.query("SELECT * FROM lines ORDER BY id")
    assert got.column_names == tuple(COLUMNS)
    assert [list(row) for row in got.result_rows] == rows(3)
    assert got.result_rows[0][3].tzinfo == BERLIN


def test_replacing_final_and_views(client: Any) -> None:
    client.command(TABLE.format(name="lines", engine="ReplacingMergeTree(version)"))
    client.insert("lines", rows(10, version=2), COLUMNS)
    client.insert("lines", rows(10, version=1), COLUMNS)
    client.command("CREATE VIEW kinds AS SELECT kind, max(version) AS version FROM lines FINAL GROUP BY kind")
    assert client.command("SELECT count() FROM lines FINAL") == 10
    assert set(client.query("SELECT version FROM kinds").result_columns[0]) == {2}


def test_parameters_settings_and_database_are_those_of_one_request(client: Any, dsn: str) -> None:
    query = "SELECT {text:String}, length({ids:Array(UInt32)}), getSetting('max_block_size'), currentDatabase()"
    parameters = {"text": "o'x\t\\", "ids": list(range(20_000))}
    got = client.query(query, parameters=parameters, settings={"max_block_size": 77}).result_rows
    assert got == [("o'x\t\\", 20_000, 77, "mine")]
    with clickhouse_connect.get_client(dsn=dsn) as other:
        assert other.query("SELECT getSetting('max_block_size') = 77, currentDatabase()").result_rows == [
            (False, "default")
        ]


@pytest.mark.parametrize("setting", ["readonly", "allow_ddl"])
def test_settings_that_cannot_be_taken_back_bind_one_request_only(dsn: str, setting: str) -> None:
    create = b"CREATE OR REPLACE TABLE default.t (a UInt8) ENGINE = MergeTree ORDER BY a"
    value = {"readonly": "1", "allow_ddl": "0"}[setting]
    for _ in range(2):
        assert ask(dsn, "POST", create, None, max_threads="1", **{setting: value})[0] >= 400
        assert ask(dsn, "GET", b"", None, query="SELECT 1", max_threads="2", **{setting: value})[2] == b"1\n"
        assert ask(dsn, "POST", create)[0] == 200
        assert ask(dsn, "GET", query=f"SELECT toString(getSetting('{setting}')) = '{value}'")[2] in (b"0\n", b"false\n")


def test_summary_counts_what_was_written(client: Any) -> None:
    client.command("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
    assert client.insert("t", [[1], [2]], ["a"]).written_rows == 2
    assert client.raw_insert("t", ["a"], b"3\n4\n5\n", fmt="CSV").written_rows == 3
    assert client.command("INSERT INTO t SELECT number FROM numbers(4)").written_rows == 4
    assert client.raw_query("SELECT count() AS n FROM t", fmt="JSONEachRow") == b'{"n":9}\n'


@pytest.mark.parametrize(
    ("sql", "settings", "code", "status"),
    [
        ("SELECT FROM x", {}, 62, 400),
        ("SELECT * FROM nowhere", {}, 60, 404),
        ("INSERT INTO nowhere FORMAT CSV\n1", {}, 60, 404),
        ("SELECT throwIf(number = 3) FROM numbers(10)", {}, 395, 500),
        ("SELECT 1", {"no_such_setting": "1"}, 115, 404),
        ("SELECT 1", {"no-such.setting": "1"}, 115, 404),
        ("SELECT 1", {"database": "nowhere"}, 81, 404),
        ("SELECT 1", {"compress": "1"}, 48, 501),
        ("SET max_threads = 1", {}, 48, 501),
        (" /* x */ create temporary table t (a Int8)", {}, 48, 501),
    ],
)
def test_errors_are_told_as_clickhouse_tells_them(
    dsn: str, sql: str, settings: dict[str, str], code: int, status: int
) -> None:
    answered, headers, body = ask(dsn, "POST", sql.encode(), None, **settings)
    assert (answered, headers["X-ClickHouse-Exception-Code"]) == (status, str(code))
    assert body.startswith(f"Code: {code}. DB::Exception: ".encode())
    assert ask(dsn, "GET", query="SELECT 1")[2] == b"1\n"


def test_client_raises_clickhouse_errors_with_their_code(client: Any) -> None:
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE") as caught:
        client.query("SELECT * FROM nowhere")
    assert caught.value.code == 60


def test_bare_http_get_and_post(dsn: str) -> None:
    assert ask(dsn, "GET", query="SELECT 1")[2] == b"1\n"
    status, headers, body = ask(dsn, "POST", b"SELECT 1 AS a FORMAT JSON", query_id="q1")
    assert (status, json.loads(body)["data"]) == (200, [{"a": 1}])
    assert (headers["X-ClickHouse-Query-Id"], headers["X-ClickHouse-Format"]) == ("q1", "JSON")
    assert json.loads(headers["X-ClickHouse-Summary"])["result_rows"] == "1"
    assert ask(dsn, "GET")[2] == b"Ok.\n"
    status, headers, _ = ask(dsn, "GET", query="DROP TABLE IF EXISTS t")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (403, "164")


def test_insert_with_the_statement_in_the_url(dsn: str) -> None:
    ask(dsn, "POST", b"CREATE OR REPLACE TABLE default.t (a UInt8) ENGINE = MergeTree ORDER BY a")
    for body, encoding in ((b"1\n2\n", ""), (gzip.compress(b"3\n"), "gzip"), (zlib.compress(b"4\n"), "deflate")):
        headers = {"Content-Encoding": encoding} if encoding else {}
        assert ask(dsn, "POST", body, headers, query="INSERT INTO t FORMAT TSV")[0] == 200
    assert ask(dsn, "POST", b"(5),(6)", query="INSERT INTO t VALUES")[0] == 200
    assert (
        ask(dsn, "POST", gzip.compress(b"7\n")[:-5], {"Content-Encoding": "gzip"}, query="INSERT INTO t FORMAT TSV")[0]
        == 400
    )
    assert ask(dsn, "GET", query="SELECT groupArray(a) FROM (SELECT a FROM t ORDER BY a)")[2] == b"[1,2,3,4,5,6]\n"


@pytest.mark.parametrize("end", [ClickHouse.stop, ClickHouse.kill])
def test_kept_folder_is_opened_again_with_its_data_and_its_tokens(
    tmp_path: Path, end: Callable[[ClickHouse], None]
) -> None:
    server = ClickHouse(tmp_path)
    with server as address:
        with clickhouse_connect.get_client(dsn=address) as first:
            first.command(TABLE.format(name="lines", engine="MergeTree"))
            first.insert("lines", rows(10), COLUMNS, settings={"insert_deduplication_token": "t:0:1-9"})
        end(server)
        with clickhouse_connect.get_client(dsn=server.start()) as again:
            again.insert("lines", rows(10), COLUMNS, settings={"insert_deduplication_token": "t:0:1-9"})
            assert again.command("SELECT count() FROM lines") == 10


def test_web_pages_are_refused(dsn: str) -> None:
    assert ask(dsn, "POST", b"SELECT 1", {"Origin": "http://a.example"})[0] == 403
    assert ask(dsn, "GET", b"", {"Host": "a.example"}, query="SELECT 1")[0] == 403


def test_long_read_does_not_hold_up_writes(dsn: str) -> None:
    ask(dsn, "POST", b"CREATE OR REPLACE TABLE default.t (a UInt8) ENGINE = MergeTree ORDER BY a")
    with ThreadPoolExecutor(1) as reader:
        slow = reader.submit(
            ask, dsn, "GET", query="SELECT sleepEachRow(0.1) FROM numbers(20) SETTINGS max_block_size=1"
        )
        for _ in range(3):
            assert ask(dsn, "POST", b"INSERT INTO t VALUES (1)")[0] == 200
        assert not slow.done()
        assert slow.result()[0] == 200


def test_many_clients_at_once_lose_nothing(dsn: str) -> None:
    ask(dsn, "POST", b"CREATE OR REPLACE TABLE default.t (a UInt32) ENGINE = MergeTree ORDER BY a")

    def work(number: int) -> None:
        with clickhouse_connect.get_client(dsn=dsn) as own:
            for step in range(10):
                own.insert("t", [[number * 10 + step]], ["a"])
                assert own.command("SELECT count() FROM t WHERE a = {a:UInt32}", {"a": number * 10 + step}) == 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert ask(dsn, "GET", query="SELECT count(), uniqExact(a) FROM t")[2] == b"80\t80\n"


@pytest.mark.parametrize(
    ("sql", "input_format", "data"),
    [
        (b"SELECT 1 FORMAT JSON", None, b""),
        (b"INSERT INTO t VALUES (1) -- FORMAT CSV", None, b""),
        (b"INSERT INTO t FORMAT Values (1)", None, b""),
        (b"/* FORMAT */ INSERT INTO t SELECT 1 FORMAT CSV", None, b""),
        (b"INSERT INTO t |FORMAT Native\n", "Native", b" \n\x00"),
        (b"insert into `format` (`a format b`, c) |format CSV\r\n", "CSV", b"1"),
        (b"INSERT INTO t (format) SETTINGS a='FORMAT x' |FORMAT TSV \t\n", "TSV", b"\t1"),
        (b'INSERT INTO "FORMAT" -- FORMAT TSV\n |FORMAT CSV', "CSV", b""),
    ],
)
def test_statement_is_split_where_its_data_begins(sql: bytes, input_format: str | None, data: bytes) -> None:
    """A bar in `sql` marks where the statement for the engine ends."""
    statement = split(sql.replace(b"|", b"") + data)
    assert (statement.sql, statement.input_format, statement.data) == (sql.split(b"|")[0], input_format, data)
    assert statement.reads is sql.startswith(b"SELECT")
