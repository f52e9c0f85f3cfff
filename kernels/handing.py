"""What an account that is merged hands on to the one that it is merged into (docs/adr/0022).

In: the account's state on its way through its events (fold.py). Out: a `Takeover` for the merge, for each later event that changed what the
account did, and for the unmerge; and the events that carry them to the other account, which may live in another partition.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple

import msgspec
from msgspec import structs

from tillstream.kernels.joining import change, deeds_of
from tillstream.kernels.routed import Follow
from tillstream.schemas.events import TakeoverEvent
from tillstream.schemas.ledger import Posting
from tillstream.schemas.member_state import Deeds, Member, Profile, Takeover

SOURCE = "tillstream/merges"

PATH = "\n"
"""Stands between the natural key of an event and the accounts through which it came, in the place that it has among an account's events."""


class Handed(NamedTuple):
    """What goes to the account `into`; `instant` is that of the event by which it goes there, as text in UTC."""

    into: str
    instant: str
    takeover: Takeover


class Handing:
    """Notes what one account hands on; `stood` is what it had done when that was looked at last, None while it is not merged."""

    def __init__(self, member: Member) -> None:
        self.stood: Deeds | None = deeds_of(member) if member.into else None
        self.handed: list[Handed] = []
        self.version = (0, 0)

    def merged(self, member: Member, into: str, place: tuple[str, str]) -> None:
        """The account is merged into another one from `place` on, or, "", into none; what was merged elsewhere leaves there."""
        if into == member.into:
            return
        if member.into:
            self.note(member, place, Takeover("", [], "over"))
        member.into = into
        self.stood = None
        if into:
            self.stood = deeds_of(member)
            whole = Takeover("", [], "whole", (0, 0), self.stood, member.tier or "", member.window_end, shown(member))
            self.note(member, place, whole)

    def tied(self, member: Member, place: tuple[str, str], taken: Takeover) -> None:
        """Another account was merged into this one, or left it, which is merged itself: that goes on as if it had been so before."""
        if self.stood is not None and taken.part != "more":
            now = deeds_of(member)
            more = Takeover("", [], "tied", (0, 0), change(self.stood, now), taken.tier, taken.window_end, shown(member))
            self.note(member, place, more)
            self.stood = now

    def stepped(self, member: Member, place: tuple[str, str]) -> None:
        """An event at `place` was taken: what it changed goes on."""
        if self.stood is not None:
            now = deeds_of(member)
            if (more := change(self.stood, now)) != Deeds():
                self.note(member, place, Takeover("", [], "more", deeds=more))
            self.stood = now

    def note(self, member: Member, place: tuple[str, str], takeover: Takeover) -> None:
        instant, key = place
        cause, *through = key.split(PATH)
        self.handed.append(Handed(member.into, instant, structs.replace(takeover, cause=cause, through=through)))

    def follows(self, account_id: str) -> Iterator[Follow]:
        """The events that carry it; what came from an account does not go back there, in whatever circle members were merged."""
        for into, instant, takeover in self.handed:
            if into not in takeover.through:
                through = [*takeover.through, account_id]
                yield Follow(into, carried(into, instant, structs.replace(takeover, through=through, version=self.version)))


def shown(member: Member) -> Profile:
    """The profile that an account has to others: with the segments of those that are merged into it."""
    return structs.replace(member.profile, published=member.all_published())


def carried(into: str, instant: str, takeover: Takeover) -> bytes:
    """The event; history need not be asked about it."""
    said = (into, takeover.through, takeover.cause, takeover.part, takeover.version)
    event = TakeoverEvent(
        specversion="1.0",
        id=blake2b(msgspec.json.encode(said), digest_size=16).hexdigest(),
        source=SOURCE,
        time=datetime.fromisoformat(instant + "+00:00"),
        data=takeover,
    )
    return b'{"recalled":"",' + msgspec.json.encode(event)[1:]  # In front, as `identify` puts it.


def place_key(takeover: Takeover) -> str:
    """What stands for a natural key in the place of a takeover: right behind the event that caused it, had it been this account's own."""
    return PATH.join([takeover.cause, *takeover.through])


def says_nothing_new(late: Posting, known: Iterable[Posting]) -> bool:
    """Whether what an account took over before says the same as `late`, or is newer.

    So accounts that seem to be merged into each other, while a fact is missing, come to rest.
    """
    new = takeover_of(late)
    what = None if new is None else (new.cause, new.through)
    there = [old for posting in known if (old := takeover_of(posting)) is not None and (old.cause, old.through) == what]
    latest = max(there, key=lambda old: old.version, default=None)
    if new is None or latest is None:
        return False
    return latest.version > new.version or latest == structs.replace(new, version=latest.version)


def takeover_of(posting: Posting) -> Takeover | None:
    """What a posting takes over, if it does."""
    return None if posting.judged is None else posting.judged.takeover


def superseded(takeovers: Iterable[tuple[str, Takeover]]) -> set[str]:
    """Of what an account took over, by posting id, that of which a later version is known."""
    latest: dict[tuple[str, tuple[str, ...]], tuple[tuple[int, int], str]] = {}
    found: set[str] = set()
    for posting_id, takeover in takeovers:
        what = takeover.cause, tuple(takeover.through)
        known = latest.get(what)
        if known is not None and known[0] >= takeover.version:
            found.add(posting_id)
            continue
        if known is not None:
            found.add(known[1])
        latest[what] = takeover.version, posting_id
    return found
