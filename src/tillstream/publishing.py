"""Programs into the topic `programs`, and what is there: `tillstream program publish` and `program list`.

In: a program file, the topic as it stands, and today. Out: one record more, or the reason why not.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from tillstream.auditing import note
from tillstream.config import Config, read_program
from tillstream.errors import ProgramError, UsageError
from tillstream.kernels.shelf import Shelf
from tillstream.kernels.timetable import Timetable
from tillstream.kernels.unseen import unseen
from tillstream.schemas.program_file import InvalidProgram, Versioned
from tillstream.schemas.publishing import published
from tillstream.servers import check_kafka, failures_named
from tillstream.streams.programs import publish, read_shelf
from tillstream.tls import kafka_settings


def publish_programs(config: Config, paths: Sequence[str], *, backdate: bool) -> list[dict[str, Any]]:
    """Publishes program files that hold together; per file the object that `program publish --json` prints.

    Raises:
        ProgramError: one has mistakes, or they do not agree with what is published.
        UsageError: one would begin in the past, and `backdate` does not say that this is meant.
    """
    files = [read_program(path) for path in paths]
    moment = datetime.now(UTC)
    with failures_named(config):
        there = shelf_of(config).timetable()
        known = [version.version for version in there.versions] if there is not None else []
        new = [(versioned, text) for versioned, text in files if versioned.version not in known]
        check_agree(paths, there, [versioned for versioned, _ in new])
        if there is not None and not backdate:
            for versioned, _ in new:
                check_begins(versioned, moment.astimezone(there.zone).date())
        publish(kafka_settings(config), [published(versioned, text, moment) for versioned, text in new])
        if new:
            note(config, "program publish", [f"{v.program.program.id}/{v.version}" for v, _ in new], moment)
    return [
        {
            "program": versioned.program.program.id,
            "version": versioned.version,
            "effective_from": versioned.program.program.effective_from,
            "published": versioned.version not in known,
            "notes": unseen([version.program for version in there.by_version.values()], versioned.program) if there is not None else [],
        }
        for versioned, _ in files
    ]


def list_programs(config: Config) -> list[dict[str, Any]]:
    """Every published version in the order of publishing, and whether it holds today."""
    with failures_named(config):
        shelf = shelf_of(config)
    timetable = shelf.timetable()
    rows = []
    for key, data, versioned, problem in shelf.shelved():
        state = "passed over" if versioned is None or problem or timetable is None else state_of(versioned, timetable)
        rows.append(
            {
                "program": data.program_id if data else key,
                "version": data.version if data else None,
                "effective_from": data.effective_from if data else None,
                "published_at": data.published_at if data else None,
                "state": state,
                "problem": problem,
            }
        )
    return rows


def state_of(versioned: Versioned, timetable: Timetable) -> str:
    """What a version that agrees with the others is today, in the programs' time zone."""
    today = datetime.now(timetable.zone).date()
    if versioned.version in [version.version for version in timetable.in_force(today)]:
        return "in force"
    begun = (versioned.program.program.effective_from or date.min) <= today
    held = versioned.version in [version.version for version in timetable.versions]
    return "to come" if held and not begun else "superseded"


def check_agree(paths: Sequence[str], there: Timetable | None, new: Sequence[Versioned]) -> None:
    """Raises ProgramError with what new programs do not agree on, with each other or with those that are published."""
    try:
        if new:
            Timetable([*(there.versions if there is not None else []), *new])
    except InvalidProgram as invalid:
        raise ProgramError(" and ".join(paths), invalid) from None


def check_begins(versioned: Versioned, today: date) -> None:
    """Raises UsageError where a program begins before today: late receipts would be judged otherwise than those that were in time."""
    begins = versioned.program.program.effective_from
    if begins is None or begins < today:
        when = "has no effective_from, so it would hold for all time" if begins is None else f"begins on {begins}, before today, {today}"
        raise UsageError(f"{versioned.program.program.id}: {when}; give it a date from today on, or say --backdate if that is meant")


def shelf_of(config: Config) -> Shelf:
    """What is published.

    Raises:
        UsageError: the installation has no such topic yet, or Kafka does not answer.
    """
    check_kafka(config)
    return read_shelf(kafka_settings(config))
