"""What happens besides receipts, as postings without entries: activities, enrolments, segments, what falls due, corrections.

An enrolment leaves in the ledger what rules look at, and nothing else of a person.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple
from zoneinfo import ZoneInfo

from msgspec import structs

from tillstream.kernels.bonuses import Bonuses
from tillstream.kernels.dues import BIRTHDAY, Due
from tillstream.kernels.fold import MERGED, UNMERGED, midnight
from tillstream.kernels.keys import digest_of
from tillstream.kernels.routed import Routed
from tillstream.schemas.events import (
    ActivityEvent,
    EnrolledEvent,
    MergedEvent,
    ProfileEvent,
    SegmentsEvent,
    TakeoverEvent,
    UnmergedEvent,
    free_fields,
)
from tillstream.schemas.ledger import Entries, Posting, PostingKind
from tillstream.schemas.member_state import Judged, Profile, Sheet
from tillstream.schemas.members import Enrolled, SegmentsChanged
from tillstream.schemas.programs import Program

SEGMENTS = "segments"
"""The attribute that holds the names of a member's target groups."""

PUBLISHED = "segments_changed"
"""What segments are judged as; no rule answers to it."""

FactEvent = ActivityEvent | ProfileEvent | MergedEvent | UnmergedEvent | TakeoverEvent

CLOCK = "tillstream/clock"
"""The source of what falls due by itself."""


class ProfileTerms(NamedTuple):
    """What rules look at, of an enrolment."""

    attributes: set[str]
    segments: bool
    birthdays: bool


def profile_terms(programs: Iterable[Program]) -> ProfileTerms:
    """What any rule of these programs looks at."""
    rules = [rule for program in programs for rule in program.rules]
    terms = [rule.member for rule in rules if rule.member is not None]
    return ProfileTerms(
        {name for each in terms for name in each.attributes or ()},
        any(each.segment is not None for each in terms),
        any(rule.on == BIRTHDAY for rule in rules),
    )


class Occasions:
    """Makes the postings of one program version; `terms` are of all versions, since an enrolment holds longer than one of them."""

    def __init__(self, program: Program, bonuses: Bonuses, zone: ZoneInfo, version: str) -> None:
        self.bonuses = bonuses
        self.zone = zone
        self.version = version
        self.terms = profile_terms([program])

    def posting(self, routed: Routed) -> Posting:
        """An activity, an enrolment, segments, a merge, or what follows from one."""
        event = routed.event
        if isinstance(event, MergedEvent | UnmergedEvent):
            trigger = MERGED if isinstance(event, MergedEvent) else UNMERGED
            return self._posting("merge", routed, event, Judged(trigger=trigger, into=event.data.into))
        if isinstance(event, TakeoverEvent):
            return self._posting("takeover", routed, event, Judged(takeover=event.data))
        if isinstance(event, ActivityEvent):
            local = event.time.astimezone(self.zone)
            answering = self.bonuses.answering(event.type, local, free_fields(routed.raw))
            return self._posting("activity", routed, event, Judged(trigger=event.type, open=answering, quantity=event.data.quantity))
        if isinstance(event, SegmentsEvent):
            published = {event.data.segmentation: event.data.segments} if self.terms.segments else {}
            judged = Judged(trigger=PUBLISHED, profile=Profile(person=self.person(routed, event), published=published))
            return self._posting("segments", routed, event, judged)
        if not isinstance(event, EnrolledEvent):
            raise TypeError(f"no fact: {type(event).__name__}")
        answering = self.bonuses.answering("enrolled", event.time.astimezone(self.zone), {})
        profile = structs.replace(self.profile(event.data), person=self.person(routed, event))
        judged = Judged(trigger="enrolled", open=answering, profile=profile, again=event.enrolledbefore)
        return self._posting("enrolment", routed, event, judged)

    def person(self, routed: Routed, event: ProfileEvent) -> str:
        """Whose event it is, where the account is not the person's own."""
        person = event.personid or event.data.member_id
        return "" if person == routed.account_id else person

    def _posting(self, kind: PostingKind, routed: Routed, event: FactEvent, judged: Judged) -> Posting:
        day = event.time.astimezone(self.zone).date().isoformat()
        return Posting(
            routed.key, kind, routed.account_id, event.source, event.id, None, digest_told(event, routed.raw), routed.offset,
            event.time.isoformat(), day, self.version, [], [], [], [], judged=judged,
        )  # fmt: skip

    def profile(self, enrolled: Enrolled) -> Profile:
        """What rules look at, of an enrolment; values that no rule can compare are left out."""
        values = {name: enrolled.attributes[name] for name in sorted(self.terms.attributes & enrolled.attributes.keys())}
        attributes = {name: value for name, value in values.items() if isinstance(value, str | int)}
        listed = enrolled.attributes.get(SEGMENTS, [])
        segments = [name for name in listed if isinstance(name, str)] if self.terms.segments and isinstance(listed, list) else []
        birthday = f"{enrolled.birth_date:%m-%d}" if self.terms.birthdays and enrolled.birth_date is not None else None
        return Profile(enrolled.kind, segments, attributes, birthday)

    def due(self, account_id: str, due: Due, cause: Routed | Posting) -> Posting:
        """What falls due; `cause` is the event by which it came to light."""
        key = blake2b(f"due\0{account_id}\0{due.name}".encode(), digest_size=16).hexdigest()
        moment = midnight(due.day, self.zone)
        answering = [rule_id for rule_id in self.bonuses.answering(due.trigger, moment, {}) if rule_id in due.rules]
        return Posting(
            key, "due", account_id, CLOCK, due.name, None, "", cause.offset, moment.isoformat(), due.day.isoformat(), self.version,
            [], [], [], [], judged=Judged(trigger=due.trigger, open=answering, quantity=due.quantity, person=due.person),
        )  # fmt: skip

    def correction(self, cause: Posting, target: Posting, entries: list[Entries], sheet: Sheet) -> Posting:
        """What `cause`, which came late, changes of what `target` gave."""
        key = blake2b(f"correction\0{cause.posting_id}\0{target.posting_id}".encode(), digest_size=16).hexdigest()
        return Posting(
            key, "correction", target.account_id, cause.source, cause.event_id, target.receipt_id, "", cause.offset, cause.occurred_at,
            cause.day, target.program_version, [], [], [], entries, reverses_posting=target.posting_id, sheet=sheet,
        )  # fmt: skip


def digest_told(event: FactEvent, raw: bytes) -> str:
    """The digest; of what is said of a person, of what stays on erasure. Whether the rest contradicts is known to the registry."""
    return digest_of(structs.replace(event, data=impersonal(event)) if isinstance(event, ProfileEvent) else event, raw)


def impersonal(event: ProfileEvent) -> Enrolled | SegmentsChanged:
    """The data of an event without what it says of a person."""
    if isinstance(event, SegmentsEvent):
        return structs.replace(event.data, segments=[])
    return Enrolled(member_id=event.data.member_id, kind=event.data.kind)
