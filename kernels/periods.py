"""Local dates: calendar periods, and the windows that look back from a day."""

from datetime import date, timedelta
from functools import lru_cache

from tillstream.kernels.expiry import month_day, months_later
from tillstream.schemas.programs import Window

MONTHS = {"month": 1, "quarter": 3, "year": 12}

Span = tuple[int, int]
"""First and last date, as ordinals, both included."""

ALWAYS: Span = (0, date.max.toordinal())

SPANS_MAX = 20_000
"""Spans that are remembered: years of dates for a program's windows; events come by the day."""


@lru_cache(SPANS_MAX)
def period(day: date, per: str) -> Span:
    """The day, ISO week, month, quarter or year that `day` falls into; everything else (`campaign`, `ever`) is all time.

    >>> [date.fromordinal(end).isoformat() for end in period(date(2026, 2, 7), "quarter")]
    ['2026-01-01', '2026-03-31']
    """
    if per == "day":
        return day.toordinal(), day.toordinal()
    if per == "week":
        monday = day - timedelta(days=day.weekday())
        return monday.toordinal(), monday.toordinal() + 6
    return calendar_months(day, MONTHS[per]) if per in MONTHS else ALWAYS


@lru_cache(SPANS_MAX)
def calendar_months(day: date, months: int) -> Span:
    """The run of `months` calendar months, counted from January, that `day` falls into; `months` divides 12."""
    first = date(day.year, (day.month - 1) // months * months + 1, 1)
    last = months_later(first, months - 1)
    return first.toordinal(), month_day(last.year, last.month, 31).toordinal()


@lru_cache(SPANS_MAX)
def last_months(day: date, months: int) -> Span:
    """The dates after `day` less `months`, up to `day`.

    >>> [date.fromordinal(end).isoformat() for end in last_months(date(2026, 3, 31), 1)]
    ['2026-03-01', '2026-03-31']
    """
    return months_later(day, -months).toordinal() + 1, day.toordinal()


@lru_cache(SPANS_MAX)
def window_span(window: Window, day: date) -> Span:
    """The dates that a condition's window looks at from `day`."""
    if window.days is not None:
        return day.toordinal() - window.days + 1, day.toordinal()
    if window.months is not None:
        return last_months(day, window.months)
    return period(day, window.per or "ever")
