"""Written dates and times, by strftime format or ISO 8601, in the zone of the mapping."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from tillstream.schemas.events import YEARS
from tillstream.sources.ingest.mapping import Formats
from tillstream.sources.ingest.rows import BadField


def instant(text: str, format_: str | None, formats: Formats, zone: ZoneInfo) -> datetime:
    """The time in `text`, in the zone; a text with an offset says itself which time it is.

    Raises:
        BadField: it is no time of the format; or its zone has that time twice or never, and the mapping does not choose.
    """
    moment = written(text, format_ or formats.time)
    if moment.tzinfo is not None:
        return moment.astimezone(zone)
    first, second = moment.replace(tzinfo=zone, fold=0), moment.replace(tzinfo=zone, fold=1)
    if first.utcoffset() == second.utcoffset():
        return first
    if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != moment:
        if formats.missing == "reject":
            raise BadField(f"{zone.key} has no {text!r}: clocks are put forward then", "say formats.missing in the mapping")
        return first.astimezone(UTC).astimezone(zone)
    if formats.ambiguous == "reject":
        raise BadField(f"{zone.key} has {text!r} twice: clocks are put back then", "say formats.ambiguous in the mapping")
    return first if formats.ambiguous == "earlier" else second


def day(text: str, format_: str | None, formats: Formats, zone: ZoneInfo) -> date:
    """The date in `text`; of a time with an offset, the date in the zone. Raises BadField."""
    moment = written(text, format_ or formats.date)
    return (moment if moment.tzinfo is None else moment.astimezone(zone)).date()


def written(text: str, format_: str | None) -> datetime:
    """A date or time as it stands. Raises BadField."""
    try:
        moment = datetime.fromisoformat(text) if format_ is None else datetime.strptime(text, format_)
    except (ValueError, OverflowError):
        told = "ISO 8601" if format_ is None else f"of the format {format_!r}"
        raise BadField(f"{text!r} is no date or time {told}", "correct the row, or [formats] in the mapping") from None
    if moment.year not in YEARS:
        raise BadField(f"the year {moment.year} is not in {YEARS.start}-{YEARS.stop - 1}")
    return moment
