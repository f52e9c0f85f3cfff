"""Expiry dates against the oracle: every `at`, leap days, ends of months."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from tillstream.kernels.expiry import expires_on
from tillstream.schemas.programs import Expires

AT = st.sampled_from(["day", "month_end", "quarter_end", "year_end"])
DAYS = st.one_of(
    st.dates(date(1970, 1, 1), date(2199, 12, 31)),
    st.sampled_from([date(2024, 2, 29), date(2026, 1, 31), date(2026, 12, 31), date(2027, 2, 28), date(2096, 2, 29), date(2199, 12, 31)]),
)
MONTH_DAYS = st.sampled_from(["01-01", "02-28", "02-29", "03-01", "06-30", "12-31"])


@given(DAYS, st.integers(1, 1000), AT)
def test_after_months_is_the_oracles(day: date, months: int, at: str) -> None:
    assert expires_on(Expires(after_months=months, at=at), day) == reference.expires_on(day, after_months=months, at=at)  # type: ignore[arg-type]


@given(DAYS, st.integers(1, 5000), AT)
def test_after_days_is_the_oracles(day: date, days: int, at: str) -> None:
    assert expires_on(Expires(after_days=days, at=at), day) == reference.expires_on(day, after_days=days, at=at)  # type: ignore[arg-type]


@given(DAYS, st.lists(MONTH_DAYS, min_size=1, max_size=3), AT)
def test_fixed_dates_are_the_oracles(day: date, dates: list[str], at: str) -> None:
    expected = reference.expires_on(reference.next_fixed(day, dates), at=at)
    assert expires_on(Expires(fixed_dates=dates, at=at), day) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expires", "earned", "last_day"),
    [
        (Expires(after_months=12, at="month_end"), date(2026, 3, 7), date(2027, 3, 31)),
        (Expires(after_months=12), date(2024, 2, 29), date(2025, 2, 28)),
        (Expires(after_months=12, at="month_end"), date(2023, 2, 28), date(2024, 2, 29)),
        (Expires(after_months=1), date(2026, 1, 31), date(2026, 2, 28)),
        (Expires(after_days=1, at="quarter_end"), date(2026, 12, 31), date(2027, 3, 31)),
        (Expires(after_days=30, at="year_end"), date(2026, 12, 1), date(2026, 12, 31)),
        (Expires(fixed_dates=["02-29"]), date(2027, 3, 1), date(2028, 2, 29)),
        (Expires(fixed_dates=["12-31"]), date(2026, 12, 31), date(2026, 12, 31)),
        (None, date(2026, 3, 7), None),
    ],
)
def test_expiry_by_example(expires: Expires | None, earned: date, last_day: date | None) -> None:
    assert expires_on(expires, earned) == last_day
