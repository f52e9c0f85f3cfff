"""Numbers, dates and templates of old systems: exact, or a reason why not."""

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tillstream.sources.ingest.currencies import minor_digits
from tillstream.sources.ingest.mapping import Formats
from tillstream.sources.ingest.moments import day, instant
from tillstream.sources.ingest.numbers import Written, number
from tillstream.sources.ingest.rows import BadField
from tillstream.sources.ingest.templates import BadTemplate, parse

POLISH = Written(",", " ")
PLAIN = Written()
WARSAW = ZoneInfo("Europe/Warsaw")


@pytest.mark.parametrize(
    ("text", "written", "minor"),
    [
        ("15.99", PLAIN, 1599),
        ("15,99", POLISH, 1599),
        ("1 599,90", POLISH, 159_990),
        ("1\u00a0234\u202f567,8", POLISH, 123_456_780),
        ("1.234.567,89", Written(",", "."), 123_456_789),
        ("1,234.5", Written(".", ","), 123_450),
        ("1'234.50", Written(".", "'"), 123_450),
        ("16", PLAIN, 1600),
        (",5", POLISH, 50),
        ("5,", POLISH, 500),
        ("-3,99", POLISH, -399),
        ("3,99-", POLISH, -399),
        ("+3.99", PLAIN, 399),
        ("15.990000", PLAIN, 1599),
        ("0", PLAIN, 0),
        ("92233720368547758.07", PLAIN, 2**63 - 1),
    ],
)
def test_number_as_it_is_written_is_exact(text: str, written: Written, minor: int) -> None:
    assert number(text, 2, written) == minor


@pytest.mark.parametrize(
    ("text", "written", "told"),
    [
        ("", PLAIN, "is no number"),
        ("-", PLAIN, "is no number"),
        (".", PLAIN, "is no number"),
        ("abc", PLAIN, "is no number"),
        ("-5-", PLAIN, "is no number"),
        ("1e3", PLAIN, "is no number"),
        ("15,99", PLAIN, "is no number"),
        ("15.99", POLISH, "is no number"),
        ("1 59,90", POLISH, "is no number"),
        ("12 3456", POLISH, "is no number"),
        ("1 2 3", PLAIN, "is no number"),
        ("NaN", PLAIN, "is no number"),
        ("١٥", PLAIN, "is no number"),
        ("9" * 50, PLAIN, "is no number"),
        ("15.999", PLAIN, "has more than 2 decimals"),
        ("92233720368547758.08", PLAIN, "does not fit 64 bits"),
    ],
)
def test_number_that_is_none_is_refused_with_a_reason(text: str, written: Written, told: str) -> None:
    with pytest.raises(BadField, match=told):
        number(text, 2, written)


@pytest.mark.parametrize(
    ("text", "floor", "half_up", "half_even"),
    [
        *[("0.125", 12, 13, 12), ("0.135", 13, 14, 14), ("0.1251", 12, 13, 13), ("0.129", 12, 13, 13)],
        *[("0.1249", 12, 12, 12), ("-0.125", -12, -13, -12)],
    ],
)
def test_number_with_more_decimals_is_rounded_as_the_mapping_says(text: str, floor: int, half_up: int, half_even: int) -> None:
    assert number(text, 2, PLAIN, "down") == floor
    assert number(text, 2, PLAIN, "half_up") == half_up
    assert number(text, 2, PLAIN, "half_even") == half_even


@pytest.mark.parametrize(
    ("text", "implied", "scale", "wanted"), [("0000001599", 2, 2, 1599), ("5", 3, 3, 5), ("1599-", 2, 2, -1599), ("12", 0, 2, 1200)]
)
def test_number_with_implied_decimals_moves_its_digits(text: str, implied: int, scale: int, wanted: int) -> None:
    assert number(text, scale, PLAIN, implied=implied) == wanted


def test_number_with_implied_decimals_and_a_sign_for_them_is_refused() -> None:
    with pytest.raises(BadField, match="has a decimal sign"):
        number("15.99", 2, PLAIN, implied=2)


@given(st.integers(0, 10**14), st.integers(0, 5), st.sampled_from(["down", "half_up", "half_even"]))
def test_rounding_equals_that_of_decimal(digits: int, decimals: int, how: str) -> None:
    exact = Decimal(digits).scaleb(-decimals)
    mode = {"down": "ROUND_DOWN", "half_up": "ROUND_HALF_UP", "half_even": "ROUND_HALF_EVEN"}[how]
    wanted = int(exact.quantize(Decimal("0.01"), rounding=mode).scaleb(2))
    assert number(f"{exact:f}", 2, PLAIN, how) == wanted  # type: ignore[arg-type]


@given(st.integers(-(10**15), 10**15))
def test_grouped_and_plain_writing_are_the_same_number(minor: int) -> None:
    whole, rest = divmod(abs(minor), 100)
    text = f"{'-' if minor < 0 else ''}{whole:,}.{rest:02}".replace(",", " ").replace(".", ",")
    assert number(text, 2, POLISH) == minor
    assert Fraction(number(text, 3, POLISH), 1000) == Fraction(minor, 100)


def test_currencies_have_the_decimals_of_iso_4217() -> None:
    assert [minor_digits(code) for code in ("PLN", "EUR", "JPY", "HUF", "KWD", "CLF")] == [2, 2, 0, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "formats", "wanted"),
    [
        ("2026-03-07 17:42:10", Formats(), "2026-03-07T17:42:10+01:00"),
        ("2026-03-07T16:42:10Z", Formats(), "2026-03-07T17:42:10+01:00"),
        ("2026-07-07T17:42:10-05:00", Formats(), "2026-07-08T00:42:10+02:00"),
        ("07.03.2026 8:15", Formats(time="%d.%m.%Y %H:%M"), "2026-03-07T08:15:00+01:00"),
        ("20261025023000", Formats(time="%Y%m%d%H%M%S", ambiguous="earlier"), "2026-10-25T02:30:00+02:00"),
        ("20261025023000", Formats(time="%Y%m%d%H%M%S", ambiguous="later"), "2026-10-25T02:30:00+01:00"),
        ("2026-03-29 02:30", Formats(missing="later"), "2026-03-29T03:30:00+02:00"),
    ],
)
def test_time_is_that_of_the_zone(text: str, formats: Formats, wanted: str) -> None:
    assert instant(text, None, formats, WARSAW).isoformat() == wanted


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2026-10-25 02:30", "twice: clocks are put back"),
        ("2026-03-29 02:30", "clocks are put forward"),
        ("2026-02-30 10:00", "is no date or time ISO 8601"),
        ("0001-01-01 00:00", "the year 1 is not in 1970-2199"),
        ("yesterday", "is no date or time"),
    ],
)
def test_time_that_is_none_or_not_one_is_refused_with_a_reason(text: str, told: str) -> None:
    with pytest.raises(BadField, match=told):
        instant(text, None, Formats(), WARSAW)


def test_ambiguous_and_missing_times_are_an_hour_apart_or_moved_on() -> None:
    earlier, later = (instant("2026-10-25 02:30", None, Formats(ambiguous=which), WARSAW) for which in ("earlier", "later"))  # type: ignore[arg-type]
    assert later.timestamp() - earlier.timestamp() == timedelta(hours=1).total_seconds()


def test_date_of_a_time_with_an_offset_is_the_date_in_the_zone() -> None:
    assert day("2026-03-07T23:42:10Z", None, Formats(), WARSAW).isoformat() == "2026-03-08"
    assert day("2026-03-07 23:42", None, Formats(), WARSAW).isoformat() == "2026-03-07"
    assert day("07.03.26", "%d.%m.%y", Formats(), WARSAW).isoformat() == "2026-03-07"


def test_template_has_fields_and_braces() -> None:
    assert parse("{a}/{b2}").names == ("a", "b2")
    assert parse("{{x}} {a}").texts == ("{x} ", "")
    for text in ("{", "a}", "{}", "{a b}", "{1}"):
        with pytest.raises(BadTemplate):
            parse(text)
