"""Which programs are in force on a local date, and what they come to: the one program that the kernels judge by (DESIGN.md §6).

    fresh-club   v1 ───────────────────┬ v2 ──────────────────►        a version holds from its `effective_from`, always where it has
    easter                  v3 ────────────────────────────────►       none, until the next version of its program
                 │    v1    │  v3+v1   │        v3+v2                  the effective versions, named in the order of the program ids

In: versions of programs, in the order of their publishing. Out: the effective `Versioned` of a date.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from tillstream.schemas.mistakes import InvalidProgram
from tillstream.schemas.program_file import Versioned
from tillstream.schemas.programs import Group, Program, Rule, Unit
from tillstream.schemas.programs_together import check_succession, check_together

NOTHING = "none"
"""The version that judged what came before any program was in force: it gave nothing."""

JOINED = "+"
"""Between the versions of programs that judged side by side."""


class Timetable:
    """Versions by program and date. Two versions of a program with the same `effective_from`: the one published last holds.

    Raises:
        InvalidProgram: versions that would be in force together, or follow one another, do not agree.
    """

    def __init__(self, published: Iterable[Versioned]) -> None:
        order = list(published)
        self.by_version = {item.version: item for item in order}
        by_place = {(item.program.program.id, begins(item)): item for item in order}
        if not by_place:
            raise ValueError("a timetable has at least one program")
        self.versions = [by_place[place] for place in sorted(by_place)]
        self._check_succession()
        self.zone = ZoneInfo(self.versions[0].program.program.time_zone)
        self.begins = sorted({date.min, *(begins(version) for version in self.versions)})
        self.ends = [*(day - timedelta(days=1) for day in self.begins[1:]), date.max]
        together = [self.in_force(day) for day in self.begins]
        for versions in together:
            if mistakes := check_together(versions):
                raise InvalidProgram(mistakes)
        self.effective_versions = [merged(versions) if versions else self._nothing_yet() for versions in together]

    def _check_succession(self) -> None:
        for old, new in zip(self.versions, self.versions[1:], strict=False):
            same = old.program.program.id == new.program.program.id
            if same and (mistakes := check_succession(old.program, new.program)):
                raise InvalidProgram(mistakes)

    def _nothing_yet(self) -> Versioned:
        """Before any program: the units of the first one, so that tenders are read, and no rule."""
        first = min(self.versions, key=lambda version: (begins(version), version.program.program.id))
        return Versioned(replace(first.program, rules=[], groups={}, tiers=None, offers=[]), NOTHING)

    def in_force(self, day: date) -> list[Versioned]:
        """The version of each program that holds on a local date, by program id."""
        held = {version.program.program.id: version for version in self.versions if begins(version) <= day}
        return list(held.values())

    def effective(self, day: date) -> Versioned:
        """All programs in force on a local date as one; the same object for all dates of a period."""
        return self.effective_versions[bisect_right(self.begins, day) - 1]

    def named(self, version: str) -> Versioned:
        """The effective program that a posting names in `program_version`, also one that does not hold any more.

        Raises:
            KeyError: one of its versions was never published, or was taken back.
        """
        return self._nothing_yet() if version == NOTHING else merged([self.by_version[name] for name in version.split(JOINED)])

    @property
    def constant(self) -> Versioned | None:
        """What holds on every date, where nothing ever changes."""
        return self.effective_versions[0] if len(self.effective_versions) == 1 else None


def begins(version: Versioned) -> date:
    """The first local date of a version."""
    return version.program.program.effective_from or date.min


def merged(versions: Sequence[Versioned]) -> Versioned:
    """One program out of those in force together: rules by (`priority`, program id, position in the file), offers by the last two.

    Its version is theirs, joined by `+` in the order of the program ids; a single program stays as it is. Groups are each program's own.
    """
    if len(versions) == 1:
        return versions[0]
    rules: list[Rule] = []
    groups: dict[str, Group] = {}
    units: dict[str, Unit] = {}
    for program, _ in versions:
        name = program.program.id
        groups |= {f"{name}/{group}": terms for group, terms in program.groups.items()}
        rules += [rule if rule.group is None else replace(rule, group=f"{name}/{rule.group}") for rule in program.rules]
        units |= program.units
    offers = [offer for program, _ in versions for offer in program.offers]
    tiers = next((program.tiers for program, _ in versions if program.tiers is not None), None)
    whole = Program(program=versions[0].program.program, units=units, rules=rules, groups=groups, tiers=tiers, offers=offers)
    return Versioned(whole, JOINED.join(version for _, version in versions))
