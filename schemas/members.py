"""Who takes part: enrolments, identities, merges, households, consents, segments, erasure (DESIGN.md §4), at the envelope's `time`."""

from datetime import date
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from tillstream.schemas.fields import Identifier
from tillstream.schemas.receipts import Identity

SEGMENTS_MAX = 64
"""Segments of one segmentation that a member may be in: they stand in the ledger with every change, and a rule asks for a few."""


class Enrolled(Struct, frozen=True, kw_only=True):
    """The data of `member.enrolled`; a later one of the same member replaces attributes and consents, and adds identities."""

    member_id: Identifier
    kind: Literal["consumer", "retailer"] = "consumer"
    identities: list[Identity] = []
    birth_date: date | None = None
    household_id: Identifier | None = None
    attributes: dict[str, Any] = {}
    consents: dict[str, Any] = {}


class IdentityAdded(Struct, frozen=True, kw_only=True):
    """The data of `member.identity_added`."""

    member_id: Identifier
    identity: Identity


class Merged(Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """The data of `member.merged`: `from` is the same person as `into`; what it has and gets counts for `into`."""

    from_: Identifier
    into: Identifier


class Unmerged(Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """The data of `member.unmerged`: ends a merge; what `from` had is its own again, what it got meanwhile stays with `into`."""

    from_: Identifier
    into: Identifier


class HouseholdChanged(Struct, frozen=True, kw_only=True):
    """The data of `member.household_changed`: from then on receipts count for the household's account; null: for the member's own again."""

    member_id: Identifier
    household_id: Identifier | None


class ConsentChanged(Struct, frozen=True, kw_only=True):
    """The data of `member.consent_changed`: purposes (marketing, profiling, personalised, ...) and whether they are agreed to."""

    member_id: Identifier
    consents: dict[str, bool]


class SegmentsChanged(Struct, frozen=True, kw_only=True):
    """The data of `member.segments_changed`: of one segmentation the member is in these segments from then on, and in no others.

    They stand beside `attributes.segments` of enrolments, and beside those of other segmentations. `version` names the rule by which they
    were computed, `as_of` the date up to which it looked.
    """

    member_id: Identifier
    segmentation: Identifier
    segments: Annotated[list[Identifier], Meta(max_length=SEGMENTS_MAX)]
    version: Identifier
    as_of: date


class Erased(Struct, frozen=True, kw_only=True):
    """The data of `member.erased`: personal values and keys are forgotten, the ledger stays."""

    member_id: Identifier


class Tick(Struct, frozen=True, kw_only=True):
    """The data of `clock.tick`: everything that falls due by `date` is due."""

    date: date
