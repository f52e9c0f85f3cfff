"""Instants as whole milliseconds since 1970, and back."""

from datetime import datetime, timedelta

from tillstream.kernels.facts import EPOCH

MS = timedelta(milliseconds=1)


def instant_ms(moment: datetime) -> int:
    """Milliseconds since 1970.

    >>> from datetime import timezone
    >>> instant_ms(datetime(1970, 1, 1, 1, tzinfo=timezone.utc))
    3600000
    """
    return (moment - EPOCH) // MS


def instant_of(ms: int) -> datetime:
    """The instant, in UTC."""
    return EPOCH + timedelta(milliseconds=ms)


def ms_of(length: timedelta) -> int:
    """A length of time in whole milliseconds."""
    return length // MS
