"""Segments computed, counted and published: of each member whose segments have changed one event `member.segments_changed`.

In: the file, ClickHouse, the registry in Redis. Out: counts, and events on the topic `members`, which hold from their time on: what
happened before is judged by the segments of before, also where it comes late. What members buy is looked at with consent to profiling only;
who takes it back is in no such segment from the next publication on.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from tillstream.audience.finding import latest_day
from tillstream.audience.people import Crowd, Person, crowd
from tillstream.config import Config
from tillstream.schemas.events import instant_text
from tillstream.segmenting.computing import by_activity, by_demography, by_taste
from tillstream.segmenting.definition import Segmentations, read_segmentations
from tillstream.sending import Sender
from tillstream.servers import check_kafka, clickhouse_of, failures_named, redis_of
from tillstream.sinks.registry import RegistryStore

SOURCE = "tillstream/segments"
"""`source` of what is published."""

Event = dict[str, Any]
SegmentsOf = Callable[[Person], list[str]]


class Segmented(NamedTuple):
    """One segmentation: its name and version, and each member's segments, sorted."""

    name: str
    version: str
    of_member: dict[str, list[str]]
    no_consent: int


async def segment_members(config: Config, path: Path, as_of: date | None, *, publishing: bool, everybody: bool) -> dict[str, Any]:
    """Computes the segmentations of a file, and publishes them where asked to; the object that `segments --json` prints.

    Raises:
        CheckFailed: history has no receipt of a member.
        UsageError: the file has a mistake, or a server is away.
    """
    said = read_segmentations(path)
    if publishing:
        check_kafka(config)
    clickhouse = clickhouse_of(config)
    moment = datetime.now(UTC)
    with failures_named(config):
        day = as_of or latest_day(clickhouse)
        async with redis_of(config) as redis:
            members = await crowd(RegistryStore(redis), moment)
        computed = list(segmented(said, clickhouse, members, day))
        events = [event for each in computed for event in changes(each, members, day, moment, everybody=everybody)]
        if publishing:
            Sender(config).send(events)
    changed = Counter(event["data"]["segmentation"] for event in events)
    return {
        "as_of": day.isoformat(),
        "members": len(members.account_of),
        "segmentations": [told(each, changed[each.name]) for each in computed],
        "published": len(events) if publishing else 0,
    }


def segmented(said: Segmentations, client: Client, members: Crowd, as_of: date) -> Iterator[Segmented]:
    """The segmentations that a file asks for."""
    people = [person for some in members.of_account.values() for person in some]
    refused = sum(not members.may_profile(person.account_id) for person in people)
    if said.rfm is not None:
        activity = by_activity(client, said.rfm, as_of)
        yield of_members("rfm", said, people, lambda person: profiled(members, activity, person), refused)
    if said.taste is not None:
        taste = by_taste(client, said.taste, as_of)
        yield of_members("taste", said, people, lambda person: profiled(members, taste, person), refused)
    if (who := said.who) is not None:
        yield of_members("who", said, people, lambda person: by_demography(who, person.profile), 0)


def of_members(name: str, said: Segmentations, people: list[Person], segments_of: SegmentsOf, no_consent: int) -> Segmented:
    """Everybody's segments of one segmentation."""
    return Segmented(name, said.version(name), {person.member_id: sorted(set(segments_of(person))) for person in people}, no_consent)


def profiled(members: Crowd, by_account: dict[str, list[str]], person: Person) -> list[str]:
    """The segments of a member's account, if everybody who buys on it has agreed to profiling."""
    return by_account.get(person.account_id, []) if members.may_profile(person.account_id) else []


def changes(segmented: Segmented, members: Crowd, as_of: date, moment: datetime, *, everybody: bool) -> Iterator[Event]:
    """The events by which the members' segments become what was computed; `everybody`: also of members who are in them already.

    Of who others were merged into, each segmentation is said once, also that it is none, since theirs would hold otherwise.
    """
    time = instant_text(moment)
    for some in members.of_account.values():
        for person in some:
            segments = segmented.of_member[person.member_id]
            known = person.published.get(segmented.name)
            before = sorted(known["segments"]) if known is not None else []
            if segments != before or (everybody and segments) or (person.joined and known is None):
                yield {
                    "specversion": "1.0",
                    "id": f"{segmented.name}/{person.member_id}/{time}",
                    "source": SOURCE,
                    "type": "member.segments_changed",
                    "time": time,
                    "data": {
                        "member_id": person.member_id,
                        "segmentation": segmented.name,
                        "segments": segments,
                        "version": segmented.version,
                        "as_of": as_of.isoformat(),
                    },
                }


def told(segmented: Segmented, changed: int) -> dict[str, Any]:
    """A segmentation in `--json`: members by segment, the largest first."""
    counts = Counter(name for names in segmented.of_member.values() for name in names)
    return {
        "name": segmented.name,
        "version": segmented.version,
        "segments": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        "in_none": sum(not names for names in segmented.of_member.values()),
        "no_consent": segmented.no_consent,
        "changed": changed,
    }
