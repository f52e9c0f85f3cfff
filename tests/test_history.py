"""History in ClickHouse: what is read is exact, however often and in whatever blocks it was written.

Every test runs twice: on chDB in this process, and on the embedded server over HTTP. Ledger records come from the real
`Poster`. An empty database per test; one filled database per engine for the tests that only read.
"""

import itertools
import json
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from tillstream.embedded.clickhouse import ClickHouse
from tillstream.kernels.holdings import settle
from tillstream.kernels.keys import key_of, natural_key
from tillstream.kernels.posting import Poster
from tillstream.kernels.routed import Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import ReturnEvent, SaleEvent, decode
from tillstream.schemas.ledger import Entry, Posting, decode_record, entries
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.receipts import Line
from tillstream.sinks.archive import FIND_SALES_MAX, Archive, balances, counts
from tillstream.sinks.clickhouse import MigrationChanged, Unreachable, connect, migrate, migrations, statements
from tillstream.sinks.history import History, cut
from tillstream.sources.faults import inject
from tillstream.sources.generated import receipts

Event = dict[str, Any]

PARTITION = 3
ACTIVE_DAYS = 5
ANALYST = Path(__file__).parents[1] / "docs" / "analyst.md"

PROGRAM = """
[program]
id = "history"
currency = "PLN"
time_zone = "Europe/Warsaw"

[units.points]
expires = { after_days = 4 }

[units.points.spending]
worth = { points = 1, amount = 1 }
max_percent = 10

[units.stamps]
hold_days = 2

[[rules]]
id = "base"
award = { points = 1, per_amount = 100 }
exclude = { kind = ["gift_card"] }

[[rules]]
id = "dairy"
lines = { category = ["dairy/**"] }
award = { multiply = 3, of = "base" }

[[rules]]
id = "basket"
when = { min_amount = 20000 }
award = { fixed = 50 }

[[rules]]
id = "stamp"
unit = "stamps"
award = { points = 1, per_line = 5 }
"""


@dataclass
class Journal:
    """What the topics hold after accrue has judged `events`, and the state that it ended with."""

    transactions: list[tuple[int, bytes]] = field(default_factory=list)
    ledger: list[tuple[int, bytes]] = field(default_factory=list)
    snapshot: Snapshot = field(default_factory=Snapshot)
    statuses: Counter[str] = field(default_factory=Counter)
    sales: dict[str, SaleEvent] = field(default_factory=dict)
    returns: dict[str, ReturnEvent] = field(default_factory=dict)

    def judge(self, events: list[Event], batch: int = 500) -> "Journal":
        poster = Poster(parse_program(PROGRAM))
        routed = []
        for offset, event in enumerate(events):
            raw = json.dumps(event).encode()
            member = (event["data"].get("member") or {}).get("value")
            self.transactions.append((offset, b'{"accountid":' + json.dumps(member).encode() + b"," + raw[1:]))
            routed.append(Routed(decode(raw), member, offset, raw))  # type: ignore[arg-type]
        for start in range(0, len(routed), batch):
            for outcome in poster.post(routed[start : start + batch], self.snapshot):
                self.statuses[outcome.status] += 1
                judged = outcome.routed.event
                if outcome.status == "accepted" and isinstance(judged, SaleEvent):
                    self.sales[key_of(judged)] = judged
                if outcome.status == "accepted" and isinstance(judged, ReturnEvent):
                    self.returns[key_of(judged)] = judged
                for record in outcome.records:
                    # A transaction's markers leave gaps in the offsets of a topic.
                    self.ledger.append((len(self.ledger) * 2 + 10, record))
        return self

    def postings(self) -> list[Posting]:
        return [record for _, raw in self.ledger if isinstance(record := decode_record(raw), Posting)]

    def entries(self) -> Iterator[tuple[Posting, Entry]]:
        return ((posting, entry) for posting in self.postings() for entry in entries(posting))

    def line(self, posting: Posting, entry: Entry) -> Line | None:
        """The line of the sale that an entry belongs to."""
        if posting.kind == "tick":
            return None
        sale = self.sales[posting.reverses_posting or posting.posting_id]
        return next((line for line in sale.data.lines if line.line_no == entry.line_no), None)

    def write(self, client: Client, block_offsets: int = 1_000) -> History:
        history = History(client, block_offsets)
        history.write_transactions(PARTITION, self.transactions)
        history.write_ledger(PARTITION, self.ledger)
        return history


def event(kind: str, event_id: str, data: Event, at: str = "2026-03-07T17:42:10+01:00") -> Event:
    head = {"specversion": "1.0", "id": event_id, "source": "pos/1", "type": kind, "time": at}
    return {**head, "data": data}


def sale(receipt_id: str, event_id: str = "e", amount: int = 1599, member: str | None = "m1", **more: Any) -> Event:
    line = {"line_no": 1, "sku": "590", "category": "dairy/cheese/hard", "brand": "Acme", "quantity_milli": 1250}
    data = {
        **{"receipt_id": receipt_id, "store_id": "PL-1", "register_id": "3", "business_date": "2026-03-07"},
        **{"issued_at": "2026-03-07T17:42:10+01:00", "currency": "PLN"},
        **({"member": {"scheme": "member", "value": member}} if member else {}),
        "lines": [{**line, "amount": amount, "discount": 200}],
        "tenders": [{"type": "card", "amount": amount}],
        **more,
    }
    return event("receipt.sale", event_id, data)


def brought_back(receipt_id: str, original: str, amount: int, event_id: str = "r", **more: Any) -> Event:
    line = {"line_no": 1, "original_line_no": 1, "quantity_milli": 100, "amount": amount}
    head = dict(sale(receipt_id, member=None)["data"])
    del head["tenders"]
    return event("receipt.return", event_id, {**head, "original_receipt_id": original, "lines": [line], **more})


def busy_days() -> list[Event]:
    """Ten days of a few shops with every fault, some sales paid with points, and ticks that expire points."""
    sales = []
    for number, one in enumerate(itertools.islice(receipts(16_000, 5, members=100), None, None, 27)):
        data = one["data"]
        if "member" in data and number % 9 == 0:
            amount = min(50, data["tenders"][0]["amount"])
            data["tenders"].append({"type": "points", "amount": amount, "unit": "points", "points": 30})
        sales.append(one)
    last = date.fromisoformat(sales[-1]["data"]["business_date"])
    events = list(inject(sales, 6, duplicates=0.05, returns=0.1, late=0.05, voids=0.02, time_zone="Europe/Warsaw"))
    for place, day in ((len(events) // 2, last - timedelta(days=5)), (len(events), last + timedelta(days=1))):
        tick = event("clock.tick", f"tick-{day}", {"date": day.isoformat()}, f"{day}T01:00:00Z")
        events.insert(place, tick)
    return events


@pytest.fixture(scope="module", params=["chdb", "http"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A DSN to be completed by a database's name."""
    if request.param == "chdb":
        yield f"{chdb_folder(tmp_path_factory)}?database="
        return
    server = ClickHouse()
    server.start()
    try:
        yield f"{server.address}/"
    finally:
        server.stop()


CHDB: list[str] = []


def chdb_folder(factory: pytest.TempPathFactory) -> str:
    """chDB has one folder per process, whatever the scope of the fixture that asks."""
    if not CHDB:
        CHDB.append(f"chdb://{factory.mktemp('chdb')}")
    return CHDB[0]


@pytest.fixture
def dsn(engine: str, request: pytest.FixtureRequest) -> str:
    """A database of the test's own."""
    return engine + re.sub(r"\W+", "_", request.node.originalname)[-60:]


@pytest.fixture
def client(dsn: str) -> Iterator[Client]:
    client = connect(dsn)
    migrate(client)
    yield client
    client.close()


@pytest.fixture(scope="module")
def journal() -> Journal:
    """Judged once; the tests only read it."""
    return Journal().judge(busy_days())


@pytest.fixture(scope="module")
def filled(engine: str, journal: Journal) -> Iterator[Client]:
    """A database with the whole journal in it."""
    client = connect(f"{engine}filled")
    migrate(client)
    journal.write(client)
    yield client
    client.close()


def rows(client: Client, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(query, parameters=parameters).result_rows]


def state(client: Client) -> tuple[Any, ...]:
    """Everything that analysts and verify can see, in short."""
    seen = rows(client, "SELECT * FROM receipts ORDER BY posting_id")
    lines = rows(client, "SELECT * FROM receipt_lines ORDER BY posting_id, line_no")
    moved = rows(client, "SELECT * FROM ledger_entries ORDER BY entry_id")
    return seen, lines, moved, list(balances(client)), counts(client)


# Migrations and the connection


def test_statements_semicolons_in_quotes_and_comments_do_not_split() -> None:
    text = "SELECT 'a;''b\\';' -- x;\n; /* y; */ SELECT `;`, \";\" / 2 - 1;;\n-- only a comment;\n"
    assert list(statements(text)) == ["SELECT 'a;''b\\';'", 'SELECT `;`, ";" / 2 - 1']


def test_migrate_twice_does_nothing_more(dsn: str) -> None:
    client = connect(dsn)
    assert migrate(client) == [migration.name for migration in migrations()]
    assert migrate(client) == []
    assert rows(client, "SELECT number FROM schema_migrations FINAL ORDER BY number") == [
        (migration.number,) for migration in migrations()
    ]
    client.close()


def test_migrate_at_the_same_time_both_succeed(dsn: str) -> None:
    clients = [connect(dsn), connect(dsn), connect(dsn)]
    failures: list[BaseException] = []
    start = threading.Barrier(len(clients))

    def run(client: Client) -> None:
        try:
            start.wait()
            migrate(client)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert rows(clients[0], "SELECT count() FROM schema_migrations FINAL") == [(len(migrations()),)]
    assert counts(clients[0]) == (0,) * 7
    for client in clients:
        client.close()


def test_migrate_cut_short_is_taken_up_again(dsn: str) -> None:
    client = connect(dsn)
    client.command(next(iter(statements(migrations()[0].text))))
    assert len(migrate(client)) == len(migrations())
    client.close()


def test_migrate_changed_file_is_refused(client: Client) -> None:
    changed = (1, migrations()[0].name, "0" * 32)
    client.command("TRUNCATE TABLE schema_migrations")
    client.insert("schema_migrations", [changed], column_names=["number", "name", "digest"])
    with pytest.raises(MigrationChanged, match=migrations()[0].name):
        migrate(client)


def test_migrations_comment_every_table_view_and_column(client: Client) -> None:
    internal = ("accepted_receipts", "receipt_documents")
    tables = rows(client, "SELECT name FROM system.tables WHERE database = currentDatabase() AND comment = ''")
    columns = rows(
        client, "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = ''"
    )
    assert tables == []
    assert [column for column in columns if column[0] not in internal] == []


@pytest.mark.parametrize("dsn", ["http://user:secret@127.0.0.1:9/shop", "bogus://here", "http://127.0.0.1:x/"])
def test_connect_nobody_there_is_one_line_without_secrets(dsn: str) -> None:
    with pytest.raises(Unreachable) as caught:
        connect(dsn)
    text = str(caught.value)
    assert "\n" not in text
    assert "secret" not in text
    assert caught.value.setting == "clickhouse"
    assert caught.value.setting in text
    assert caught.value.address in text


# Writing again


def test_write_same_block_again_is_dropped_on_arrival(client: Client, journal: Journal) -> None:
    tables = ("receipts_log", "postings_log", "records")
    logs = f"SELECT {', '.join(f'(SELECT count() FROM {table})' for table in tables)}"
    journal.write(client)
    once = rows(client, logs)
    journal.write(client)
    assert rows(client, logs) == once


def test_write_overlapping_blocks_nothing_doubles(client: Client, filled: Client, journal: Journal) -> None:
    for block_offsets in (1_000, 250):
        journal.write(client, block_offsets)
    history = History(client)
    for start, end in ((0, 37), (20, 400), (399, 5_000)):
        history.write_transactions(PARTITION, journal.transactions[start:end])
        history.write_ledger(PARTITION, journal.ledger[start:end])
    assert state(client) == state(filled)
    for table in ("receipts_log", "postings_log", "records"):
        client.command(f"OPTIMIZE TABLE {table} FINAL")
    assert state(client) == state(filled)


def test_write_crash_between_tables_written_again_is_whole(
    client: Client, filled: Client, journal: Journal
) -> None:
    history = History(client, 500)
    history.write_transactions(PARTITION, journal.transactions)
    client.command("RENAME TABLE records TO elsewhere")
    with pytest.raises(DatabaseError):
        history.write_ledger(PARTITION, journal.ledger)
    assert 0 < counts(client).postings < counts(filled).postings
    client.command("RENAME TABLE elsewhere TO records")
    History(client, 500).write_ledger(PARTITION, journal.ledger)
    assert state(client) == state(filled)
    logged, distinct = rows(client, "SELECT count(), uniqExact(posting_id) FROM postings_log")[0]
    assert logged == distinct


def test_write_topic_made_anew_same_offsets_are_other_records(client: Client) -> None:
    Journal().judge([sale("A")]).write(client)
    Journal().judge([sale("B")]).write(client)
    assert rows(client, "SELECT receipt_id FROM receipts ORDER BY 1") == [("A",), ("B",)]


def test_cut_ends_blocks_at_multiples_wherever_it_starts() -> None:
    records = [(offset, b"") for offset in range(0, 100, 3)]
    blocks = [[offset for offset, _ in block] for block in cut(records, 10)]
    again = [[offset for offset, _ in block] for block in cut(records[5:], 10)]
    assert again[1:] == blocks[2:]
    assert all(len({offset // 10 for offset in block}) == 1 for block in blocks)
    assert list(itertools.chain(*blocks)) == [offset for offset, _ in records]


def test_cut_long_records_bound_the_bytes_of_a_block() -> None:
    records = [(offset, b"x" * 100) for offset in range(25)]
    blocks = list(cut(records, 10, bytes_max=400))
    assert [len(block) for block in blocks] == [4, 4, 2, 4, 4, 2, 4, 1]
    assert list(itertools.chain(*blocks)) == records


def test_write_undecodable_record_is_kept_and_does_not_stop_the_rest(client: Client) -> None:
    journal = Journal().judge([sale("A")])
    good = journal.ledger[0][1]
    huge = good.replace(b'"points":[15]', b'"points":[%d]' % 2**63)
    uneven = good.replace(b'"points":[15]', b'"points":[15,16]')
    short = good.replace(b'"digest":"', b'"digest":"00')
    assert len({good, huge, uneven, short}) == 4
    history = History(client)
    for _ in range(2):
        history.write_transactions(PARTITION, [(0, b"\xff{"), (1, b'{"type":"receipt.sale"}'), *journal.transactions])
        history.write_ledger(PARTITION, [(0, b"[" * 100_000), (2, huge), (3, uneven), (4, short), *journal.ledger])
    assert history.rejects == 12
    kept = rows(client, "SELECT topic, kafka_offset, hex(value) FROM history_rejects FINAL ORDER BY 1, 2")
    assert [(topic, offset) for topic, offset, _ in kept] == [
        *(("ledger", 0), ("ledger", 2), ("ledger", 3), ("ledger", 4), ("transactions", 0), ("transactions", 1)),
    ]
    assert bytes.fromhex(kept[1][2]) == huge
    assert (counts(client).sales, counts(client).rejects) == (1, 6)


# What is accepted


def test_receipts_duplicate_counts_once_and_the_first_event_stays(client: Client) -> None:
    Journal().judge([sale("A", "first"), sale("A", "again"), sale("A", "third")]).write(client, 1)
    assert rows(client, "SELECT event_id, amount, net_money FROM receipts") == [("first", 1599, Decimal("15.99"))]


def test_receipts_conflicting_refused_and_waiting_are_not_there(client: Client) -> None:
    events = [
        *(sale("A", "first"), sale("A", "conflict", amount=99)),
        *(sale("B", "currency", currency="EUR"), brought_back("R1", "A", 2000, "too-much")),
        *(brought_back("R2", "unknown", 10, "waits"), brought_back("R3", "A", 10, "taken")),
        *(brought_back("R4", "C", 10_000, "waits-then-refused"), sale("C", "c")),
    ]
    journal = Journal().judge(events)
    assert journal.statuses == {"accepted": 3, "refused": 4, "waiting": 2}
    journal.write(client)
    assert rows(client, "SELECT event_id FROM receipts ORDER BY 1") == [("c",), ("first",), ("taken",)]
    assert rows(client, "SELECT sum(net_amount) FROM receipt_lines") == [(1599 + 1599 - 10,)]
    assert counts(client)[:6] == (2, 1, 0, 3, 3, len(list(journal.entries())))


def test_receipts_conflict_that_came_first_after_a_refusal_is_not_there(client: Client) -> None:
    journal = Journal().judge([sale("A", "refused", currency="EUR"), sale("A", "taken", amount=700)])
    journal.write(client)
    assert rows(client, "SELECT event_id, currency, amount FROM receipts") == [("taken", "PLN", 700)]


def test_receipts_return_before_its_sale_is_there_with_goods_and_account(client: Client) -> None:
    journal = Journal().judge([brought_back("R", "A", 800), sale("A")])
    journal.write(client)
    assert rows(
        client,
        "SELECT kind, account_id, sku, category_1, category_3, category, brand, net_amount, original_line_no "
        "FROM receipt_lines ORDER BY kind",
    ) == [
        ("return", "m1", "590", "dairy", "hard", "dairy/cheese/hard", "Acme", -800, 1),
        ("sale", "m1", "590", "dairy", "hard", "dairy/cheese/hard", "Acme", 1599, None),
    ]
    assert rows(client, "SELECT sale_id = {key:String} FROM receipts", key=natural_key("pos/1", "A")) == [(1,), (1,)]


def test_receipts_void_repeated_in_another_month_counts_once(client: Client) -> None:
    void = event("receipt.void", "v", {"receipt_id": "A"}, "2026-03-31T23:50:00+02:00")
    again = {**void, "id": "v2", "time": "2026-04-01T00:10:00+02:00"}
    Journal().judge([sale("A"), brought_back("R", "A", 600), void, again]).write(client)
    assert rows(client, "SELECT kind, store_id, currency, net_amount, business_date FROM receipts ORDER BY kind") == [
        ("return", "PL-1", "PLN", -600, date(2026, 3, 7)),
        ("sale", "PL-1", "PLN", 1599, date(2026, 3, 7)),
        ("void", "PL-1", "PLN", -999, date(2026, 3, 31)),
    ]
    assert rows(client, "SELECT sum(net_amount), sum(net_quantity_milli) FROM receipt_lines WHERE sku = '590'") == [
        (0, 0)
    ]


def test_receipts_anonymous_is_there_without_account(client: Client) -> None:
    Journal().judge([sale("A", member=None)]).write(client)
    assert rows(client, "SELECT account_id, amount FROM receipts") == [(None, 1599)]
    assert list(balances(client)) == []


def test_receipts_times_keep_the_wall_clock_from_the_first_to_the_last_year(client: Client) -> None:
    local = datetime(2199, 12, 31, 23, 59, 59, 999_000)
    late: Event = {"issued_at": "2199-12-31T23:59:59.999-12:00", "business_date": "2199-12-31"}
    Journal().judge([sale("A"), sale("B", business_date="1970-01-01"), sale("C", **late)]).write(client)
    assert rows(
        client, "SELECT issued_at, utc_offset_minutes, issued_local, business_date FROM receipts ORDER BY receipt_id"
    ) == [
        (moment(16, 42), 60, moment(17, 42), date(2026, 3, 7)),
        (moment(16, 42), 60, moment(17, 42), date(1970, 1, 1)),
        (local + timedelta(hours=12), -720, local, date(2199, 12, 31)),
    ]


def test_ledger_days_beyond_what_clickhouse_holds_are_the_nearest(client: Client) -> None:
    journal = Journal().judge([sale("A")])
    far = journal.ledger[0][1].replace(b'"2026-03-11"', b'"9998-01-01"').replace(b"2026-03-07", b"9998-01-01")
    assert History(client).write_ledger(PARTITION, [(0, far)]) == 2
    seen = rows(client, "SELECT expires_on, day, toDate32(occurred_at) FROM ledger_entries WHERE unit = 'points'")
    assert set(seen) == {(date(2299, 12, 31),) * 3}
    assert counts(client).rejects == 0


def moment(hour: int, minute: int) -> datetime:
    return datetime(2026, 3, 7, hour, minute, 10)


# The whole journal against Python


def test_counts_of_the_journal_are_those_of_the_ledger(filled: Client, journal: Journal) -> None:
    kinds = Counter(posting.kind for posting in journal.postings())
    assert all(journal.statuses[status] for status in ("accepted", "duplicate", "waiting"))
    assert all(kinds[kind] > 10 for kind in ("sale", "return", "void", "tick"))
    lines = sum(len(one.data.lines) for one in journal.sales.values())
    lines += sum(len(one.data.lines) for one in journal.returns.values())
    lines += sum(len(posting.line_no) for posting in journal.postings() if posting.kind == "void")
    moved = len(list(journal.entries()))
    expected = (kinds["sale"], kinds["return"], kinds["void"], lines, sum(kinds.values()), moved, 0)
    assert counts(filled) == expected


def test_balances_are_those_of_the_snapshot(filled: Client, journal: Journal) -> None:
    expected = [
        (account, unit, holding.balance)
        for account, units in sorted(journal.snapshot.accounts.items())
        for unit, holding in sorted(units.items())
    ]
    assert list(balances(filled)) == expected


def test_ledger_entries_are_those_of_the_ledger(filled: Client, journal: Journal) -> None:
    names = Entry.__struct_fields__
    expected = []
    for _, entry in journal.entries():
        values = msgspec.structs.asdict(entry)
        values["occurred_at"] = datetime.fromisoformat(entry.occurred_at).astimezone(UTC).replace(tzinfo=None)
        values["expires_on"] = entry.expires_on and date.fromisoformat(entry.expires_on)
        expected.append(tuple(values[name] for name in names))
    seen = rows(filled, f"SELECT {', '.join(names)} FROM ledger_entries")
    assert {row[0]: row for row in seen} == {row[0]: row for row in expected}
    assert len(seen) == len(expected)


def test_ledger_entries_explain_their_rule(filled: Client, journal: Journal) -> None:
    groups = [group for posting in journal.postings() for group in posting.entries]
    expected: Counter[tuple[Any, ...]] = Counter()
    for group in groups:
        expected[group.rule_id, group.basis, group.award, group.uncovered] += len(group.points)
    seen = rows(filled, "SELECT rule_id, basis, award, uncovered, count() FROM ledger_entries GROUP BY 1, 2, 3, 4")
    assert {row[:4]: row[4] for row in seen} == expected
    assert any(group.uncovered for group in groups)


def test_ledger_entries_say_what_is_held_pending_and_beyond_the_terms(client: Client) -> None:
    member = {"scheme": "member", "value": "m1"}

    def points(kind: str, name: str, **data: Any) -> Event:
        envelope = {"specversion": "1.0", "id": kind, "source": "app", "type": f"points.{kind}", "time": "2026-03-02T12:00:00+01:00"}
        return {**envelope, "data": {name: f"{kind}-1", "member": member, **data}}

    given = points("adjust", "adjustment_id", points=100, reason="goodwill", actor="desk")
    held = points("hold", "hold_id", points=40, expires_at="2026-03-05T12:00:00+01:00")
    lines = [{"line_no": n, "sku": "1", "quantity_milli": 1000, "amount": 20} for n in range(5)]
    header = {"store_id": "PL-1", "register_id": "1", "business_date": "2026-03-03", "issued_at": "2026-03-03T12:00:00+01:00"}
    tender = {"type": "points", "amount": 15, "points": 15, "hold_id": "hold-1"}
    bought = {"receipt_id": "s", **header, "currency": "PLN", "member": member, "lines": lines, "tenders": [tender]}
    sale = {"specversion": "1.0", "id": "s", "source": "pos", "type": "receipt.sale", "time": header["issued_at"], "data": bought}
    Journal().judge([given, held, sale]).write(client)
    seen = rows(
        client,
        "SELECT posting_kind, kind, sum(points), hold_id, until, beyond_terms, sale_id IS NULL, receipt_id FROM ledger_entries"
        " WHERE rule_id IS NULL OR unit = 'stamps' GROUP BY ALL ORDER BY posting_kind, kind, hold_id",
    )
    assert seen == [
        ("adjustment", "adjustment", 100, None, None, False, True, None),
        ("hold", "hold", -40, "hold-1", date(2026, 3, 5), False, True, None),
        ("sale", "accrual", 1, None, None, False, False, "s"),
        ("sale", "capture", -15, "hold-1", None, True, False, "s"),
        ("sale", "hold", -1, None, date(2026, 3, 4), False, False, "s"),
        ("sale", "release", 40, "hold-1", None, False, False, "s"),
    ]
    assert rows(client, "SELECT count() FROM history_rejects") == [(0,)]
    assert rows(client, "SELECT DISTINCT sale_id FROM ledger_lines WHERE posting_kind != 'sale'") == [(None,)]


def test_ledger_entries_from_before_the_columns_of_spending_are_read(client: Client) -> None:
    """Rows that were written before migration 0003 have no values in its columns."""
    Journal().judge(busy_days()[:20]).write(client)
    before = rows(client, "SELECT * FROM ledger_entries WHERE NOT beyond_terms AND until IS NULL ORDER BY entry_id")
    for column in ("beyond_terms", "hold_id", "until"):
        client.command(f"ALTER TABLE postings_log DROP COLUMN `entries.{column}` SETTINGS mutations_sync = 1")
    for statement in statements(migrations()[2].text):
        client.command(statement)
    after = rows(client, "SELECT * FROM ledger_entries ORDER BY entry_id")
    assert before
    assert [row for row in after if row[0] in {row[0] for row in before}] == before


def test_ledger_lines_are_the_entries_with_their_goods(filled: Client, journal: Journal) -> None:
    expected = {}
    for posting, entry in journal.entries():
        line = journal.line(posting, entry)
        goods = (line.sku, line.category, line.amount) if line else (None, None, None)
        expected[entry.entry_id] = (entry.points, *goods)
    seen = rows(filled, "SELECT entry_id, points, sku, category, line_amount FROM ledger_lines")
    assert {row[0]: row[1:] for row in seen} == expected
    assert len(seen) == len(expected)


def test_archive_finds_all_records_of_a_sale_once(filled: Client, journal: Journal) -> None:
    expected = defaultdict(list)
    for _, raw in journal.ledger:
        record = decode_record(raw)
        if isinstance(record, Posting) and record.kind != "tick":
            expected[record.reverses_posting or record.posting_id].append(raw)
    archive = Archive(filled)
    asked = [*expected, *(f"{number:032x}" for number in range(FIND_SALES_MAX))]
    assert archive.find(asked) == expected
    assert any(len(records) > 2 for records in expected.values())
    assert archive.find([]) == {}


def test_archive_records_replayed_give_the_state_of_the_sale(filled: Client, journal: Journal) -> None:
    sale_id = next(iter(journal.snapshot.returned))
    recalled = Snapshot()
    for raw in Archive(filled).find([sale_id])[sale_id]:
        recalled.record(raw)
    assert recalled.returned[sale_id] == journal.snapshot.returned[sale_id]
    assert recalled.postings[sale_id] == journal.snapshot.postings[sale_id]


# docs/analyst.md


def documented() -> dict[str, str]:
    """The queries of docs/analyst.md by their heading."""
    query = r"^## (.+)\n(?:(?!## |```sql).*\n)*```sql\n((?:(?!```).*\n)*)"
    return dict(re.findall(query, ANALYST.read_text(), re.MULTILINE))


QUERIES = documented()


def monday(day: str) -> date:
    parsed = date.fromisoformat(day)
    return parsed - timedelta(days=parsed.weekday())


def first_level(category: str | None) -> str | None:
    return (category or "").split("/")[0] or None


def test_analyst_every_query_is_tested() -> None:
    assert list(QUERIES) == [
        *("Points given, by category, week and rule", "Points liability by month of expiry"),
        *("Best and most profitable goods", "Shops compared", "Active and passive members"),
        *("Share of returns by category", "Statement of a member", "What a campaign reached"),
        *("What arrived and was not accepted", "What is looked at and not bought", "How offers do"),
    ]


def test_analyst_points_given_by_category_week_and_rule(filled: Client, journal: Journal) -> None:
    expected: Counter[tuple[Any, ...]] = Counter()
    for posting, entry in journal.entries():
        if entry.unit == "points" and entry.rule_id:
            line = journal.line(posting, entry)
            assert line is not None
            expected[first_level(line.category), monday(posting.day), entry.rule_id] += entry.points
    seen = rows(filled, QUERIES["Points given, by category, week and rule"])
    assert {row[:3]: row[3] for row in seen} == dict(expected)


def test_analyst_points_liability_is_the_sum_of_the_lots(filled: Client, journal: Journal) -> None:
    expected: Counter[date | None] = Counter()
    for units in journal.snapshot.accounts.values():
        for expiry, points in settle(units["points"], journal.snapshot.as_of).lots.items():
            expected[date.fromisoformat(expiry).replace(day=1) if expiry else None] += points
    assert expected
    assert dict(rows(filled, QUERIES["Points liability by month of expiry"])) == dict(expected)
    expired = rows(filled, "SELECT sum(points) FROM ledger_entries WHERE kind = 'expiry'")
    assert expired[0][0] < 0


def turnover_lines(journal: Journal) -> Iterator[tuple[str, str, str | None, Line, int, int]]:
    """(kind, store, account, line of the sale, amount, quantity_milli) of every accepted line."""
    postings = {posting.posting_id: posting for posting in journal.postings()}
    for key, posting in postings.items():
        if posting.kind == "tick":
            continue
        sale_event = journal.sales[posting.reverses_posting or key]
        lines = {line.line_no: line for line in sale_event.data.lines}
        store = journal.returns[key].data.store_id if posting.kind == "return" else sale_event.data.store_id
        for number, amount, quantity in zip(posting.line_no, posting.amount, posting.quantity_milli, strict=True):
            yield posting.kind, store, posting.account_id, lines[number], amount, quantity


def test_analyst_best_goods_are_those_of_the_receipts(filled: Client, journal: Journal) -> None:
    turnover: Counter[str] = Counter()
    pieces: Counter[str] = Counter()
    points: Counter[str] = Counter()
    for kind, _, _, line, amount, quantity in turnover_lines(journal):
        if line.kind == "item":
            turnover[line.sku] += amount if kind == "sale" else -amount
            pieces[line.sku] += quantity if kind == "sale" else -quantity
    for posting, entry in journal.entries():
        if entry.unit == "points" and entry.rule_id and (line_ := journal.line(posting, entry)):
            points[line_.sku] += entry.points
    best = sorted(turnover, key=lambda sku: (points[sku] - turnover[sku], sku))[:50]
    expected = [
        (sku, turnover[sku], pieces[sku] / 1000, points[sku], turnover[sku] - points[sku]) for sku in best
    ]
    assert rows(filled, QUERIES["Best and most profitable goods"]) == expected


def test_analyst_shops_compared(filled: Client, journal: Journal) -> None:
    turnover: Counter[str] = Counter()
    members: dict[str, set[str | None]] = defaultdict(set)
    for kind, store, account, _, amount, _ in turnover_lines(journal):
        turnover[store] += amount if kind == "sale" else -amount
        members[store].add(account)
    sales = Counter(one.data.store_id for one in journal.sales.values())
    carded = Counter(one.data.store_id for one in journal.sales.values() if one.data.member)
    seen = rows(filled, QUERIES["Shops compared"])
    assert {row[0]: row[1] for row in seen} == sales
    assert {row[0]: int(row[2] * 100) for row in seen} == turnover
    assert {row[0]: row[4] for row in seen} == {store: round(100 * carded[store] / sales[store], 1) for store in sales}
    assert {row[0]: row[5] for row in seen} == {store: len(those - {None}) for store, those in members.items()}


def test_analyst_active_and_passive_members(filled: Client, journal: Journal) -> None:
    bought: dict[str, date] = {}
    for posting in journal.postings():
        if posting.kind == "sale" and posting.account_id:
            day = journal.sales[posting.posting_id].data.business_date
            bought[posting.account_id] = max(day, bought.get(posting.account_id, day))
    newest = max(one.data.business_date for one in journal.sales.values())
    active = sum(day > newest - timedelta(days=ACTIVE_DAYS) for day in bought.values())
    seen = rows(filled, QUERIES["Active and passive members"])
    assert [row[:2] for row in seen] == [("active", active), ("passive", len(bought) - active)]


def test_analyst_share_of_returns_by_category(filled: Client, journal: Journal) -> None:
    sums: dict[str | None, Counter[str]] = defaultdict(Counter)
    for kind, _, _, line, amount, _ in turnover_lines(journal):
        sums[first_level(line.category)][kind] += amount
    seen = rows(filled, QUERIES["Share of returns by category"])
    assert {row[0]: row[1:3] for row in seen} == {name: (sums[name]["sale"], sums[name]["return"]) for name in sums}
    assert sum(row[2] for row in seen) > 0


def test_analyst_statement_ends_with_the_balance(filled: Client, journal: Journal) -> None:
    account = max(journal.snapshot.accounts, key=lambda name: len(journal.snapshot.accounts[name]["points"].debits))
    seen = rows(filled, QUERIES["Statement of a member"], account=account)
    assert seen[-1][-1] == journal.snapshot.accounts[account]["points"].balance
    assert {row[3] for row in seen} >= {"accrual", "redemption", "expiry"}


def test_analyst_campaign_reached(filled: Client, journal: Journal) -> None:
    expected: dict[str, list[Any]] = {}
    for posting in journal.postings():
        for group in posting.entries:
            if group.kind == "accrual" and group.unit == "points" and group.rule_id:
                accounts, reached, given, basis = expected.setdefault(group.rule_id, [set(), 0, 0, 0])
                accounts.add(posting.account_id)
                expected[group.rule_id][1:] = [reached + 1, given + sum(group.points), basis + (group.basis or 0)]
    seen = rows(filled, QUERIES["What a campaign reached"])
    assert {row[0]: row[1:5] for row in seen} == {
        rule: (len(accounts), *numbers) for rule, (accounts, *numbers) in expected.items()
    }


def test_analyst_not_accepted(client: Client) -> None:
    Journal().judge([sale("A"), sale("A", amount=1), sale("A"), brought_back("R", "B", 1)]).write(client)
    seen = rows(client, QUERIES["What arrived and was not accepted"])
    assert [(row[0], row[2], row[5]) for row in seen] == [("sale", "A", 1), ("return", "R", 3)]
