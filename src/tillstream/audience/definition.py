"""An audience as it is asked for: by options, or by a TOML file that makes a run repeatable (`audiences/*.toml`)."""

import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from tillstream.errors import UsageError
from tillstream.schemas.mistakes import nearest

HORIZON_DAYS = 28
"""Four weeks: what a campaign waits for."""

Days = Annotated[int, Meta(ge=1, le=365)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
Text = Annotated[str, Meta(min_length=1, max_length=1000)]

SEEDS = ("bought", "redeemed", "seed")


class Definition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to find: one of `SEEDS`, one of `top` and `share`; paths of a file are taken from where it lies."""

    name: Name = "audience"
    bought: Text | None = None
    redeemed: Text | None = None
    seed: Text | None = None
    within_days: Days | None = None
    horizon_days: Days = HORIZON_DAYS
    top: Annotated[int, Meta(ge=1)] | None = None
    share: Annotated[float, Meta(gt=0, le=1)] | None = None
    purposes: tuple[Text, ...] = ("marketing",)
    output: Text | None = None
    report: Text | None = None
    contacts: Text | None = None
    hashed_contacts: Text | None = None

    @property
    def written_to(self) -> Path:
        """Where the audience goes."""
        return Path(self.output or f"{self.name}.csv")


def checked(definition: Definition, prefix: str = "--") -> Definition:
    """The definition, if its parts go together; `prefix` is what stands before a name where the user wrote it.

    Raises:
        UsageError: they do not.
    """
    given = [name for name in SEEDS if getattr(definition, name) is not None]
    if len(given) != 1:
        raise UsageError(f"give one of {', '.join(prefix + name for name in SEEDS)}: who the audience is to be like; given: {len(given)}")
    if (definition.top is None) == (definition.share is None):
        raise UsageError(f"give one of {prefix}top and {prefix}share: how many of the members to take")
    if definition.within_days is not None and definition.seed is not None:
        raise UsageError(f"{option(prefix, 'within_days')} goes with {prefix}bought or {prefix}redeemed; a list has no dates")
    if (definition.contacts is None) != (definition.hashed_contacts is None):
        names = option(prefix, "contacts"), option(prefix, "hashed_contacts")
        raise UsageError(f"{names[0]} and {names[1]} go together: the CRM's file, and where the hashes go")
    return definition


def option(prefix: str, name: str) -> str:
    """A field's name as an option, or as a key of a file."""
    return prefix + name.replace("_", "-") if prefix else name


def read_definition(path: Path) -> Definition:
    """The definition in a TOML file.

    Raises:
        UsageError: it can't be read, or has a mistake; names the key.
    """
    try:
        with path.open("rb") as file:
            found: dict[str, Any] = {"name": path.stem, **tomllib.load(file)}
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from None
    known = Definition.__struct_fields__
    for key in found.keys() - set(known):
        raise UsageError(f"{path}: {key} is no key of an audience; {nearest(key, known, 'docs/audience.md tells all keys')}")
    try:
        definition = checked(msgspec.convert(found, Definition), prefix="")
    except msgspec.ValidationError as error:
        message, _, place = str(error).rpartition(" - at `$.")
        raise UsageError(f"{path}: {place.rstrip('`')}: {message}") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    places = ("seed", "output", "report", "contacts", "hashed_contacts")
    here = {name: str(path.parent / text) for name in places if (text := getattr(definition, name)) is not None}
    return msgspec.structs.replace(definition, **{"output": str(path.parent / definition.written_to), **here})
