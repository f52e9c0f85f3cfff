"""Local dates in, periods and windows of local dates out; both ends of an interval belong to it."""

from datetime import date, timedelta
from typing import Any

from tests.reference import expires_on, next_fixed

Interval = tuple[date, date]

DAY = timedelta(days=1)


def period_of(day: date, per: str) -> Interval:
    """The calendar period that `day` falls into; weeks are ISO weeks; `campaign` and `ever` are all time.

    >>> period_of(date(2026, 3, 7), "quarter")
    (datetime.date(2026, 1, 1), datetime.date(2026, 3, 31))
    """
    if per == "day":
        return day, day
    if per == "week":
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=6)
    if per == "month":
        return months_period(day, 1)
    if per == "quarter":
        return months_period(day, 3)
    if per == "year":
        return months_period(day, 12)
    return date.min, date.max


def months_period(day: date, months: int) -> Interval:
    """The running period of `months` months, counted from January."""
    first = date(day.year, (day.month - 1) // months * months + 1, 1)
    return first, months_after(first, months) - DAY


def months_after(day: date, months: int) -> date:
    """The same day of a later (or, below zero, earlier) month, or that month's last."""
    return expires_on(day, after_months=months)


def window_of(day: date, window: dict[str, Any]) -> Interval:
    """The dates that a `Window` ending on `day` looks at."""
    if "days" in window:
        return day - timedelta(days=window["days"] - 1), day
    if "months" in window:
        return months_after(day, -window["months"]) + DAY, day
    return period_of(day, window["per"])


def expiry_of(unit: dict[str, Any], day: date) -> str:
    """The last day of points that were earned on `day`; empty for points that never expire."""
    expires = unit.get("expires")
    if not expires:
        return ""
    at = expires.get("at", "day")
    if "fixed_dates" in expires:
        return f"{expires_on(next_fixed(day, expires['fixed_dates']), at=at)}"
    return f"{expires_on(day, expires.get('after_months', 0), expires.get('after_days', 0), at)}"
