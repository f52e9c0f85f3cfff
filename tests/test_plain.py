"""Scanning a record says nothing, or what decoding it says: to the byte of the ledger record, on any bytes whatever."""

import json
from collections.abc import Iterator
from datetime import timedelta
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import fields

from tests.member_strategies import random_member_history, random_member_program
from tests.strategies import FIRST_DAY, UNSHRUNK, Event, program_text, random_history, random_program, random_sale, repeated
from tillstream.kernels.columns import gather
from tillstream.kernels.fold import instant_text
from tillstream.kernels.keys import digest_of, key_of
from tillstream.kernels.plain import PlainSale, Scanner
from tillstream.kernels.posters import Posters
from tillstream.kernels.posting import Poster, is_plain
from tillstream.kernels.routed import AnyRouted, Outcome, Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.events import ROUTED_BYTES_MAX, SaleEvent, decode
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.receipts import Line, Sale
from tillstream.sources.generated import fixed_size, receipts
from tillstream.streams.identify import with_account

OFFSET = 7
PLAIN = next(fixed_size(1, seed=1, lines=2))

SPICES = (
    *(b'"', b"\\", b"\\u0041", b"\xc5\xbc", b"\xff", b"\x00", b"\x1f", b"\x7f", b",", b":", b"{", b"}", b"[", b"]", b" ", b"\n", b"\x0b"),
    *(b"null", b"true", b"-", b"-0", b"0", b"00", b"1.0", b"1e3", b"9" * 18, b"9" * 19, b"9223372036854775808", b'""'),
    *(b'"' + b"x" * 257 + b'"',),
    *(b'"x":1,', b'"x":"y",', b'"x":{},', b'"recalled":"",', b'"accountid":"m",', b'"kind":"item",', b'"kind":"fee",', b'"discount":0,'),
    *(b'"replyto":"g.1",', b'"replyto":"",', b'"replyto":null,', b'"replyto":7,'),
    *(b'"brand":null,', b'"category":"",', b'"tenders":[],', b'"member":null,', b'"line_no":1,'),
    *(b'"tenders":[{"type":"points","amount":0}],', b'"tenders":[{"type":"card","amount":0}],'),
    *(b"2026-02-29", b"2024-02-29", b"2026-00-10", b"1969-12-31", b"2200-01-01", b"T24:00:00", b":60", b"Z", b"+00:00"),
    *(b"-00:00", b"-23:59", b"+24:00", b"+05:60", b".5", b"EUR", b"points", b"receipt.return", b"receipt.sale", b"1.1"),
)


@pytest.fixture(scope="module")
def poster() -> Poster:
    """A program that looks at stores, dates, hours and all that a line has."""
    return Poster(parse_program(program_text(random_program(Random(8), filler=70))))


def scanned(poster: Poster, raw: bytes) -> PlainSale | None:
    return poster.scanner.scan([raw], [OFFSET])[0]


def spiced(random: Random, raw: bytes) -> bytes:
    """The bytes with a few changes: pieces put in, left out, doubled, exchanged, mostly where a value begins."""
    for _ in range(random.randint(1, 3)):
        at = random.choice([random.randrange(len(raw)), *(place for place in range(len(raw)) if raw[place] in b':,{["')])
        until = min(len(raw), at + random.choice([0, 1, 1, 2, 10, 20]))
        piece = random.choice([b"", raw[at:until] * 2, random.choice(SPICES), random.choice(SPICES), random.choice(SPICES)])
        at += random.choice([0, 1])
        raw = raw[:at] + piece + raw[max(at, until) :]
    return raw


def written(random: Random, event: Event) -> bytes:
    """An event as some till might write it: fields in any order, white space or not, more fields than we know."""

    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return [shuffled(item) for item in value]
        if not isinstance(value, dict):
            return value
        fields = [(name, shuffled(item)) for name, item in value.items()]
        if random.random() < 0.2:
            fields.append(random.choice([("subject", "a till"), ("x", 3), ("x", None), ("x", {}), ("brand", None), ("ż", "1")]))
        random.shuffle(fields)
        return dict(fields)

    text = json.dumps(shuffled(event), separators=random.choice([(",", ":"), (", ", ": ")]), ensure_ascii=random.random() < 0.5)
    return with_account(text.encode(), random.choice(["m1", "m1", "p-\u017c", "", None]))


def assert_says_the_same(poster: Poster, raw: bytes) -> bool:
    """Whether `raw` was scanned; if it was, everything about it is as decoding has it."""
    sale = scanned(poster, raw)
    if sale is None:
        return False
    event = decode(raw, ROUTED_BYTES_MAX)
    assert isinstance(event, SaleEvent)
    assert (event.recalled, event.replyto) == (None, sale.reply_to)
    assert (sale.account_id, sale.key, sale.sale_key, sale.digest) == (event.accountid, key_of(event), key_of(event), digest_of(event))
    assert (sale.raw, sale.offset, sale.place, sale.event, sale.issued_on) == (raw, OFFSET, 0, event, event.data.issued_at.date())
    assert is_plain(event.data, sale.account_id, poster.terms_of(sale.day), None)
    *columns, days = gather(poster.compiled, [event.data], poster.zone)
    assert [column.tolist() for column in sale.batch.columns()] == [column.tolist() for column in columns]
    assert [sale.day] == days
    assert (sale.instant, sale.occurred_at) == (instant_text(event.data.issued_at), event.data.issued_at.isoformat())
    ways: list[tuple[AnyRouted, Snapshot]] = [(sale, Snapshot()), (Routed(event, sale.account_id, OFFSET, raw), Snapshot())]
    (fast, fast_state), (slow, slow_state) = [(said(poster.post([routed], snapshot)), vars(snapshot)) for routed, snapshot in ways]
    assert fast == slow
    assert fast_state == slow_state
    return True


def said(outcomes: list[Outcome]) -> list[tuple[str, list[bytes], str]]:
    """What outcomes say, but for the event itself."""
    return [(outcome.status, list(outcome.records), str(outcome.problem)) for outcome in outcomes]


@settings(phases=UNSHRUNK, max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_scanning_any_sale_or_what_mutation_leaves_of_it_says_what_decoding_says(poster: Poster, random: Random) -> None:
    raw = written(random, random_sale(random, lines_max=4, huge=random.random() < 0.1))
    assert_says_the_same(poster, raw)
    for _ in range(20):
        assert_says_the_same(poster, spiced(random, raw))
        assert_says_the_same(poster, spiced(random, with_account(PLAIN, "m1")))


@given(st.binary(max_size=60), st.integers(0, len(PLAIN)))
def test_scanning_any_bytes_declines_or_says_what_decoding_says(poster: Poster, noise: bytes, cut: int) -> None:
    assert scanned(poster, noise) is None
    assert_says_the_same(poster, with_account(PLAIN[:cut] + noise, "m1"))


def test_every_spice_at_every_place_says_what_decoding_says(poster: Poster) -> None:
    raw = with_account(PLAIN, "m1")
    outcomes = [assert_says_the_same(poster, raw[:at] + spice + raw[at:]) for at in range(len(raw) + 1) for spice in SPICES]
    assert 0.05 < sum(outcomes) / len(outcomes) < 0.95


def test_generated_receipts_are_scanned_where_they_are_plain(poster: Poster) -> None:
    """What shops send is plain, mostly; it would be no use if only the load test's receipts were."""
    raws = [with_account(orjson.dumps(event), "m1") for event in receipts(400, 3)]
    events = [event for event in map(decode, raws) if isinstance(event, SaleEvent)]
    plain = sum(b'"type":"points"' not in raw for raw in raws)
    assert sum(assert_says_the_same(poster, raw) for raw in raws) == plain > len(events) / 3


@pytest.mark.parametrize(
    ("field", "values"),
    [
        (b'"PLN"', [b'"EUR"', b'"pln"', b"null"]),
        (b'"accountid":"m1"', [b'"accountid":null', b'"account":"m1"', b'"accountid":"m1","recalled":""']),
        (b'"receipt.sale"', [b'"receipt.return"', b'"receipt.void"', b'"clock.tick"']),
        (b'"line_no":2', [b'"line_no":1', b'"line_no":0', b'"line_no":-2', b'"line_no":2.0', b'"line_no":"2"']),
        (b'"lines":', [b'"tenders":[{"type":"points","amount":1}],"lines":', b'"tenders":[{"type":"x","amount":1,"points":0}],"lines":']),
    ],
)
def test_what_is_no_plain_sale_is_left_to_decoding(poster: Poster, field: bytes, values: list[bytes]) -> None:
    raw = with_account(PLAIN, "m1")
    assert scanned(poster, raw) is not None
    assert field in raw
    assert [scanned(poster, raw.replace(field, value)) for value in values] == [None] * len(values)


@pytest.mark.parametrize(("known", "place"), [(SaleEvent, b'{"accountid"'), (Sale, b'{"receipt_id"'), (Line, b'{"line_no"')])
def test_no_field_of_ours_is_passed_over_as_unknown(poster: Poster, known: type[Struct], place: bytes) -> None:
    """Whoever adds a field to an event has to tell the scanner."""
    raw = with_account(PLAIN, "m1")
    plain = scanned(poster, raw)
    assert plain is not None

    def read_with(name: str, value: bytes) -> tuple[str, str | None] | None:
        sale = scanned(poster, raw.replace(place, b'{"%s":%s,%s' % (name.encode(), value, place[1:]), 1))
        return sale and (sale.digest, sale.reply_to)

    assert read_with("unknown", b"1") == read_with("unknown", b'"1"') == (plain.digest, None)
    for field in fields(known):
        assert (plain.digest, None) not in {read_with(field.encode_name, b"1"), read_with(field.encode_name, b'"1"')}


def test_who_asks_for_a_reply_is_read_and_is_nothing_of_the_sale(poster: Poster) -> None:
    plain, asking = (scanned(poster, with_account(raw, "m1")) for raw in (PLAIN, b'{"replyto":"6f1c.17",' + PLAIN[1:]))
    assert plain is not None
    assert asking is not None
    assert (plain.reply_to, asking.reply_to) == (None, "6f1c.17")
    assert (plain.key, plain.digest) == (asking.key, asking.digest)


def test_zone_whose_offset_had_seconds_is_left_to_decoding() -> None:
    """Liberia was 44 minutes and 30 seconds behind until 1972: there a minute of UTC lies in two local ones."""
    program = random_program(Random(1)) | {"program": {"id": "m", "currency": "PLN", "time_zone": "Africa/Monrovia"}}
    poster = Poster(parse_program(program_text(program)))
    raw = with_account(PLAIN, "m1")
    issued_at = decode(raw, ROUTED_BYTES_MAX).data.issued_at.isoformat().encode()  # type: ignore[union-attr]
    assert assert_says_the_same(poster, raw)
    assert not assert_says_the_same(poster, raw.replace(b'"issued_at":"' + issued_at, b'"issued_at":"1971-05-01T10:00:45+00:00'))


def account_of(event: Event) -> str | None:
    """The account that `identify` would find."""
    found: str | None = event["data"].get("member", {}).get("value") or event["data"].get("member_id")
    return found


def routed_both_ways(scanner: Scanner, events: list[Event], rows: int) -> Iterator[tuple[list[Routed], list[AnyRouted]]]:
    """Batches, decoded and scanned."""
    for first in range(0, len(events), rows):
        some = events[first : first + rows]
        raws = [with_account(orjson.dumps(event), account_of(event)) for event in some]
        offsets = list(range(first, first + len(raws)))
        typed = [(decode(raw, ROUTED_BYTES_MAX), raw, offset) for raw, offset in zip(raws, offsets, strict=True)]
        decoded = [Routed(event, event.accountid or None, offset, raw) for event, raw, offset in typed]  # type: ignore[arg-type]
        yield decoded, [sale or event for sale, event in zip(scanner.scan(raws, offsets), decoded, strict=True)]


@settings(phases=UNSHRUNK, max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 20))
def test_history_scanned_and_decoded_gives_the_same_records_and_state(random: Random, rows: int) -> None:
    poster = Poster(parse_program(program_text(random_program(random))))
    events = random_history(random, 8, ticks=True)
    events += repeated(random, events)
    random.shuffle(events)
    slow_state, fast_state = Snapshot(), Snapshot()
    for decoded, scanned_ones in routed_both_ways(poster.scanner, events, rows):
        assert said(poster.post(scanned_ones, fast_state)) == said(poster.post(decoded, slow_state))
        assert vars(fast_state) == vars(slow_state)


@settings(phases=UNSHRUNK, max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 20))
def test_history_of_members_scanned_and_decoded_gives_the_same_records_and_state(random: Random, rows: int) -> None:
    family = Posters(Timetable([parse_program(program_text(random_member_program(random)))]))
    events = random_member_history(random, 8)
    events += repeated(random, events)
    if random.random() < 0.5:
        events.sort(key=lambda event: str(event["data"].get("issued_at", event["time"])))
    else:
        random.shuffle(events)
    slow_state, fast_state = Snapshot(), Snapshot()
    for decoded, scanned_ones in routed_both_ways(scanner_of(family), events, rows):
        assert family.in_need_of_chronicles(scanned_ones, fast_state) == family.in_need_of_chronicles(decoded, slow_state)
        assert said(family.post(scanned_ones, fast_state)) == said(family.post(decoded, slow_state))
        assert vars(fast_state) == vars(slow_state)


@pytest.mark.parametrize("seed", range(20))
def test_sales_scanned_for_another_version_are_judged_by_the_version_of_their_day(seed: int) -> None:
    """A program published between scanning and judging, and one that begins in the middle of a batch."""
    random = Random(seed)
    old, new = random_member_program(random), random_member_program(random)
    new |= {"program": old["program"] | {"effective_from": FIRST_DAY + timedelta(days=10)}, "units": old["units"]}
    before, after = parse_program(program_text(old)), parse_program(program_text(new))
    events = random_history(random, 12)
    slow_state, fast_state = Snapshot(), Snapshot()
    slow, fast = Posters(Timetable([before, after])), Posters(Timetable([before]))
    for number, (decoded, scanned_ones) in enumerate(routed_both_ways(scanner_of(fast), events, 5)):
        if number == 1:
            fast.exchange(Timetable([before, after]))
            slow_state, fast_state = Snapshot(), Snapshot()
        if number:
            assert said(fast.post(scanned_ones, fast_state)) == said(slow.post(decoded, slow_state))
            assert vars(fast_state) == vars(slow_state)


def scanner_of(family: Posters) -> Scanner:
    scanner = family.scanner
    assert scanner is not None
    return scanner


def test_sale_whose_points_do_not_fit_is_refused_either_way() -> None:
    text = '[program]\nid="big"\ncurrency="PLN"\ntime_zone="UTC"\n[units.points]\n[[rules]]\nid="r"\naward={fixed=9223372036854775807}\n'
    poster = Poster(parse_program(text))
    raws = [with_account(raw, "m1") for raw in fixed_size(2, seed=2, lines=1)]
    slow_state, fast_state = Snapshot(), Snapshot()
    decoded = [Routed(decode(raw), "m1", offset, raw) for offset, raw in enumerate(raws)]  # type: ignore[arg-type]
    fast = poster.post([sale for sale in poster.scanner.scan(raws, [0, 1]) if sale is not None], fast_state)
    assert said(fast) == said(poster.post(decoded, slow_state))
    assert [outcome.status for outcome in fast] == ["accepted", "refused"]
    assert vars(fast_state) == vars(slow_state)


def test_sale_whose_rules_together_give_more_than_fits_is_refused_either_way() -> None:
    rule = '[[rules]]\nid="%s"\naward={fixed=5000000000000000000}\n'
    text = '[program]\nid="big"\ncurrency="PLN"\ntime_zone="UTC"\n[units.points]\n' + rule % "a" + rule % "b"
    poster = Poster(parse_program(text))
    raw = with_account(next(fixed_size(1, seed=2, lines=1)), "m1")
    fast = poster.post([sale for sale in poster.scanner.scan([raw], [0]) if sale is not None], Snapshot())
    assert said(fast) == said(poster.post([Routed(decode(raw), "m1", 0, raw)], Snapshot()))  # type: ignore[arg-type]
    assert [outcome.status for outcome in fast] == ["refused"]


def test_members_sale_whose_rules_together_give_more_than_fits_is_refused_either_way() -> None:
    rule = '[[rules]]\nid="%s"\nonce="year"\naward={fixed=5000000000000000000}\n'
    text = '[program]\nid="big"\ncurrency="PLN"\ntime_zone="UTC"\n[units.points]\n' + rule % "a" + rule % "b"
    family = Posters(Timetable([parse_program(text)]))
    raw = with_account(next(fixed_size(1, seed=2, lines=1)), "m1")
    fast = family.post([sale for sale in scanner_of(family).scan([raw], [0]) if sale is not None], Snapshot())
    assert said(fast) == said(family.post([Routed(decode(raw), "m1", 0, raw)], Snapshot()))  # type: ignore[arg-type]
    assert [outcome.status for outcome in fast] == ["refused"]


def test_batch_that_is_judged_again_says_the_same(poster: Poster) -> None:
    """As after a writer that was fenced: what was scanned and awarded stands, the state is read anew."""
    raws = [with_account(orjson.dumps(event), "m1") for event in receipts(200, 5)]
    sales = [sale for sale in poster.scanner.scan(raws, list(range(len(raws)))) if sale is not None]
    assert said(poster.post(sales, Snapshot())) == said(poster.post(sales, Snapshot()))
    some = sales[: len(sales) // 2 : 3]
    assert said(poster.post(some, Snapshot())) == said(poster.post(sales, Snapshot()))[: len(sales) // 2 : 3]
