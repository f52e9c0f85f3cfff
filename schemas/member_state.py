"""What rules may ask about a member, as the ledger carries it: the state after an event, and what an event was judged by.

All of it is a function of the account's events in the order of (instant, natural key), so that it can be recomputed when one comes late.
Dates are ordinals (`date.toordinal`), amounts minor units, quantities thousandths.
"""

from typing import Literal

from msgspec import Struct

Value = str | int | bool

WHOLE = -1
"""Stands for the line number where an award is nobody's line: bonuses for events other than receipts."""


class Profile(Struct, frozen=True, omit_defaults=True):
    """What an enrolment says that rules look at, and nothing else; `birthday` is MM-DD, `enrolled_on` the local date.

    person: the member id, where the account is not the person's own: that of a household. published: the segments that
    `member.segments_changed` said last, by segmentation.
    """

    kind: str = "consumer"
    segments: list[str] = []
    attributes: dict[str, Value] = {}
    birthday: str | None = None
    enrolled_on: int | None = None
    person: str = ""
    published: dict[str, list[str]] = {}


class Deeds(Struct, frozen=True, omit_defaults=True):
    """What an account's member did, by local date: `counts` and `given` as in `Member`, of `used` how often; or a change of that."""

    counts: dict[str, dict[int, int]] = {}
    given: dict[str, dict[int, int]] = {}
    used: dict[str, dict[int, int]] = {}


class Taken(Struct, frozen=True, omit_defaults=True):
    """What of an account's state is that of an account which is merged into it; `profile` as it was at the merge."""

    deeds: Deeds = Deeds()
    profile: Profile = Profile()


class Member(Struct, omit_defaults=True):
    """The state of an account behind its event `last`, (UTC instant, natural key).

    counts: per counter (`visits`, `purchases`, `spend`, `points/<unit>`, `watch/<id>`) sums by local date; what came back is off the
    sale's date.
    given: per rule with a cap what it gave, by local date. used: per rule with `once` the dates on which it gave something.
    tier: its id, "" for none; `window_end`: the last day of the window after which it is decided anew, 0 where nothing is to be decided.
    profile: what was said last; others: the same of the other persons of a household, by member id; used_by: `used` of rules that answer to
    a person (`enrolled`, `birthday`), by member id, where the account is not the person's own.
    into: the account that this one is merged into, "" for none: then nothing falls due here, and what happens here counts there as well.
    taken: by account what is merged into this one and is in `counts`, `given` and `used`, the first merge first; lent: the account whose
    profile this one has from there, but for what was published, "" where it is its own.
    dues_until: the date of what fell due by itself last; next_due: the next such date, as things stand, 0 for none.
    asked: what of all that versions ask for the sums have (kernels/asked.py, `Asked.mark`).
    """

    last: tuple[str, str] = ("", "")
    profile: Profile = Profile()
    counts: dict[str, dict[int, int]] = {}
    given: dict[str, dict[int, int]] = {}
    used: dict[str, list[int]] = {}
    tier: str | None = None
    window_end: int = 0
    dues_until: int = 0
    next_due: int = 0
    others: dict[str, Profile] = {}
    used_by: dict[str, dict[str, list[int]]] = {}
    into: str = ""
    taken: dict[str, Taken] = {}
    lent: str = ""
    asked: str = ""

    def all_published(self) -> dict[str, list[str]]:
        """The segments published of the person, by segmentation: the account's own, or of the first one merged into it that has some."""
        found = dict(self.profile.published)
        for taken in self.taken.values():
            found = taken.profile.published | found
        return found

    def all_segments(self) -> list[str]:
        """The segments that the person is in, each once, those of the enrolment first."""
        published = [name for _, names in sorted(self.all_published().items()) for name in names]
        return list(dict.fromkeys([*self.profile.segments, *published]))


class Takeover(Struct, frozen=True, omit_defaults=True):
    """What the account `through[-1]`, which is merged into another one, brings there at an instant of its own.

    cause: the natural key of the event that happened then; through: the accounts that it went through, where it happened first.
    part: `whole`, all that it did up to the merge, its tier and its profile; `more`, what came of a later event; `tied`, the same
    of another that was merged into it or left it: with the tier that this one brought, and its own profile then; `over`, it is unmerged.
    version: (events, latest tick) that the account had seen: the largest of one cause and account stands.
    """

    cause: str
    through: list[str]
    part: Literal["whole", "more", "tied", "over"]
    version: tuple[int, int] = (0, 0)
    deeds: Deeds = Deeds()
    tier: str = ""
    window_end: int = 0
    profile: Profile = Profile()


class Judged(Struct, frozen=True, omit_defaults=True):
    """What an event is to the rules, whatever its member's state: enough to judge it again under another one.

    Of a sale: `receipt_bits` and `line_bits` as the award kernel takes them, `others`, the watches of other versions that have the last of
    these bits (kernels/rules.py), and the `tender` of points. Of anything else: `trigger`, and
    `open`, the rules that its moment and its own fields leave open, `quantity`, and the `profile` of an enrolment, or of segments that were
    published; `person`: whose birthday it is, as in `Profile`; `again`: the person had enrolled before, with whatever account. All in the
    program version of the posting.
    Of a merge or unmerge, which `trigger` tells apart: `into`. Of what an account takes over by one: `takeover`.
    """

    receipt_bits: list[int] = []
    line_bits: list[int] = []
    tender: int = 0
    trigger: str = ""
    open: list[str] = []
    quantity: int = 1
    profile: Profile | None = None
    person: str = ""
    again: bool = False
    into: str = ""
    takeover: Takeover | None = None
    others: list[str] = []


class Look(Struct, frozen=True, omit_defaults=True):
    """What a member's state meant for a sale: the rules that it closed, as bits, and the most that each rule with a room might give.

    In the program version of the posting, as the award kernel takes it; empty where nothing will be judged again under it.
    """

    closed: list[int] = []
    room: list[int] = []


class Sheet(Struct, omit_defaults=True):
    """What an event's rules stand at: points given, and of these taken back by returns, per rule id and line number.

    look: under which to judge the sale again on a return.
    """

    given: dict[str, dict[int, int]] = {}
    undone: dict[str, dict[int, int]] = {}
    look: Look = Look()
