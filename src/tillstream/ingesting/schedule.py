"""When a watched folder is looked at next: after a while, or at fixed times of day.

>>> from datetime import datetime, UTC
>>> from tillstream.sources.ingest.mapping import Schedule
>>> waiting_s(Schedule(every="15m"), UTC, datetime(2026, 3, 7, 12, 0, tzinfo=UTC))
900.0
"""

from datetime import datetime, time, timedelta, tzinfo

from tillstream.sources.ingest.mapping import Schedule

UNITS_S = {"s": 1, "m": 60, "h": 3600}

LOOK_S = 2.0
"""Between two looks where the mapping has no schedule: a file is there for seconds before it is complete."""


def waiting_s(schedule: Schedule, zone: tzinfo, now: datetime) -> float:
    """Seconds from `now`, when a round has ended, until the next begins."""
    if schedule.every is not None:
        return float(int(schedule.every[:-1]) * UNITS_S[schedule.every[-1]])
    if not schedule.at:
        return LOOK_S
    today = now.astimezone(zone).date()
    days = (today, today + timedelta(days=1))
    moments = [datetime.combine(day, time.fromisoformat(text), zone) for day in days for text in schedule.at]
    return min((moment - now).total_seconds() for moment in moments if moment > now)
