"""The last day on which points can be used, from the local date they were earned on (DESIGN.md §5, Lots)."""

from calendar import monthrange
from datetime import date, timedelta

from tillstream.schemas.programs import Expires


def expires_on(expires: Expires | None, earned: date) -> date | None:
    """None: never.

    >>> expires_on(Expires(after_months=12, at="month_end"), date(2026, 3, 7))
    datetime.date(2027, 3, 31)
    >>> expires_on(Expires(after_months=1), date(2027, 1, 31))
    datetime.date(2027, 2, 28)
    >>> expires_on(Expires(fixed_dates=["06-30", "12-31"]), date(2026, 7, 1))
    datetime.date(2026, 12, 31)
    """
    if expires is None:
        return None
    if expires.fixed_dates is not None:
        day = next_fixed(expires.fixed_dates, earned)
    elif expires.after_months is not None:
        day = months_later(earned, expires.after_months)
    else:
        day = earned + timedelta(days=expires.after_days or 0)
    return period_end(day, expires.at)


def months_later(day: date, months: int) -> date:
    """The same day `months` later, or the last of that month where it is shorter."""
    years, month = divmod(day.month - 1 + months, 12)
    return month_day(day.year + years, month + 1, day.day)


def next_fixed(dates: list[str], day: date) -> date:
    """The first of the yearly `MM-DD` dates that is not before `day`; 02-29 is the 28th in common years."""
    candidates = [
        month_day(year, int(text[:2]), int(text[3:])) for year in (day.year, day.year + 1) for text in dates
    ]
    return min(candidate for candidate in candidates if candidate >= day)


def period_end(day: date, at: str) -> date:
    """`day` itself, or the end of its month, quarter or year."""
    if at == "day":
        return day
    month = {"month_end": day.month, "quarter_end": (day.month + 2) // 3 * 3, "year_end": 12}[at]
    return month_day(day.year, month, 31)


def month_day(year: int, month: int, day: int) -> date:
    return date(year, month, min(day, monthrange(year, month)[1]))
