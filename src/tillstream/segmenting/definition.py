"""Segmentations as a TOML file: how often is regular, how long ago is lost, which attributes and goods make a segment.

In: the file. Out: a frozen struct, and of each segmentation in it the version: the hash of what it says.
"""

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from tillstream.errors import UsageError
from tillstream.schemas.members import SEGMENTS_MAX

Days = Annotated[int, Meta(ge=1, le=3650)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]

VERSION_DIGITS = 16


class Activity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By what a member is `new`, `active`, `passive` or `lost`, and `regular` or `irregular`; docs/audience.md has the rule.

    All in days but `visits_min`, the days with a purchase below which nobody is called regular, and `deviation_max`, the deviation of the
    gaps between them, as a share of their mean.
    """

    new_days: Days = 30
    active_days: Days = 60
    lost_days: Days = 180
    visits_min: Annotated[int, Meta(ge=3, le=365)] = 4
    deviation_max: Annotated[float, Meta(gt=0, le=10)] = 0.75


class Taste(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Segments by the top-level categories in which a member spends most: the first `top`, if each has `share_min` of all that it spent."""

    days: Days = 180
    top: Annotated[int, Meta(ge=1, le=SEGMENTS_MAX)] = 1
    share_min: Annotated[float, Meta(ge=0, le=1)] = 0.2


class Demography(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Segments by what enrolments say: one for each value of these attributes."""

    attributes: Annotated[list[Name], Meta(min_length=1, max_length=16)]


class Segmentations(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is computed, by the name of the segmentation; each is optional."""

    rfm: Activity | None = None
    taste: Taste | None = None
    who: Demography | None = None

    def version(self, name: str) -> str:
        """The hash of what one segmentation says, defaults included."""
        return hashlib.sha256(msgspec.json.encode(getattr(self, name), order="sorted")).hexdigest()[:VERSION_DIGITS]

    def names(self) -> list[str]:
        """The segmentations that are asked for."""
        return [name for name in self.__struct_fields__ if getattr(self, name) is not None]


def read_segmentations(path: Path) -> Segmentations:
    """The segmentations in a TOML file.

    Raises:
        UsageError: it can't be read, or has a mistake; names the key.
    """
    try:
        with path.open("rb") as file:
            found: dict[str, Any] = tomllib.load(file)
        said = msgspec.convert(found, Segmentations)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from None
    except msgspec.ValidationError as error:
        message, _, place = str(error).rpartition(" - at `$.")
        raise UsageError(f"{path}: {place.rstrip('`')}: {message}" if message else f"{path}: {error}; it has {known()}") from None
    if not said.names():
        raise UsageError(f"{path}: no segmentation in it; it has {known()}, one at least")
    if said.rfm is not None and not said.rfm.active_days < said.rfm.lost_days:
        raise UsageError(f"{path}: rfm.lost_days: {said.rfm.lost_days} is not above active_days, {said.rfm.active_days}; correct one")
    return said


def known() -> str:
    return " ".join(f"[{name}]" for name in Segmentations.__struct_fields__)
