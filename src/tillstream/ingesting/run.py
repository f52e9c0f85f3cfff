"""One round: every complete file of a target, into Kafka.

A file is done in this order, which must not change: (1) hash it, and find its checkpoint; (2) decode it from its beginning, passing over
the outcomes that the checkpoint counts; then per batch (3) send the events and wait until they are acknowledged, (4) write the rejects,
(5) write the checkpoint; at its end (6) see that it has not changed meanwhile, and (7) move it.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from tillstream.errors import UsageError
from tillstream.ingesting.checkpoints import Checkpoints, Progress
from tillstream.ingesting.files import Opened, Watchman, candidates, opened, put_away, rejects_path
from tillstream.ingesting.rejects import RejectFile, reject_line
from tillstream.sources.ingest.archives import Damaged, members
from tillstream.sources.ingest.decoding import REVISION, Outcome, outcomes, stopped
from tillstream.sources.ingest.mapping import Mapping
from tillstream.sources.ingest.mapping_file import Versioned

BATCH_OUTCOMES = 1_000
"""Receipts between two checkpoints: what a killed run repeats, some tens of milliseconds of work."""


class Sends(Protocol):
    """What sends events and returns when they are acknowledged (tillstream.sending.Sender)."""

    def send(self, events: Iterable[dict[str, Any]]) -> int: ...


class Result(NamedTuple):
    """What came of one file. `state`: `new`, `resumed`, `unchanged` (done before), `unreadable` (not to its end), `changed` (while it
    was read), `stopped` (in its middle), `left` (still being written) or `failed`, with the reason. Counts are over all runs."""

    file: str
    state: str
    rows: int = 0
    events: int = 0
    rejected: int = 0
    passed: int = 0
    rejects: str | None = None
    reason: str | None = None


class Round:
    """Takes files by one mapping."""

    def __init__(
        self,
        versioned: Versioned,
        checkpoints: Checkpoints,
        progressed: Callable[[str, Progress], None] = lambda name, progress: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.mapping = versioned.mapping
        self.version = f"{versioned.version}.{REVISION}"
        self.checkpoints = checkpoints
        self.progressed = progressed
        self.stopping = stopping
        self.watchman = Watchman(self.mapping.files)

    def run(self, target: Path, sender: Sends, told: Callable[[Result], None], patient: Callable[[float], None] | None = None) -> None:
        """Takes every complete file, and tells of each. `patient` waits for a single file that has just been written.

        Raises:
            UsageError: the one file cannot be read, or its rejects not written; of a folder this is told, and the others are taken.
            SendFailed: Kafka did not acknowledge; what is done is kept, another run goes on there.
        """
        for path in candidates(target, self.mapping.files):
            if self.stopping():
                return
            try:
                told(self.complete(path, sender, patient if path == target else None))
            except UsageError as error:
                if path == target:
                    raise
                told(Result(str(path), "failed", reason=str(error)))

    def complete(self, path: Path, sender: Sends, patient: Callable[[float], None] | None) -> Result:
        """Takes one file if it is complete."""
        waiting_s = self.watchman.waiting_s(path)
        if 0 < waiting_s <= self.mapping.files.stable_s and patient is not None:
            patient(waiting_s)
            waiting_s = self.watchman.waiting_s(path)
        if waiting_s > 0:
            return Result(str(path), "left")
        with opened(path) as there:
            return self.file(path, there, sender)

    def file(self, path: Path, there: Opened, sender: Sends) -> Result:
        """Takes one file, steps (2) to (7)."""
        progress = self.checkpoints.of(self.version, there.content)
        rejects = rejects_path(path, there.content, self.mapping.files)
        if progress.done:
            return self.finished(path, there, "unchanged", progress, rejects)
        state, rest = "resumed" if progress.outcomes else "new", False
        with RejectFile(rejects, progress.rejects_bytes) as reject_file:
            left = islice(file_outcomes(there.file, path.name, self.mapping), progress.outcomes, None)
            while batch := list(islice(left, BATCH_OUTCOMES)):
                sender.send([event for _, outcome in batch for event in outcome.events])
                reject_file.write(reject_line(name, reject) for name, outcome in batch for reject in outcome.rejects)
                progress = added(progress, [outcome for _, outcome in batch], reject_file.size)
                self.checkpoints.save(self.version, there.content, path.name, progress)
                self.progressed(path.name, progress)
                rest = any(reject.rest for _, outcome in batch for reject in outcome.rejects)
                if self.stopping():
                    return result(path, "stopped", progress, rejects)
        if there.changed:
            return result(path, "changed", progress, rejects)
        progress = progress._replace(done=True)
        self.checkpoints.save(self.version, there.content, path.name, progress)
        return result(path, "unreadable", progress, rejects) if rest else self.finished(path, there, state, progress, rejects)

    def finished(self, path: Path, there: Opened, state: str, progress: Progress, rejects: Path) -> Result:
        """Moves a file that is done."""
        return result(put_away(path, there.content, self.mapping.files), state, progress, rejects)


def file_outcomes(file: BinaryIO, name: str, mapping: Mapping) -> Iterator[tuple[str, Outcome]]:
    """The outcomes of a file, or of all files in an archive, each with the name of its file."""
    try:
        for member in members(file, name):
            inside = name if member.name == name else f"{name}: {member.name}"
            for outcome in outcomes(member.stream, mapping):
                yield inside, outcome
    except Damaged as damaged:
        yield name, stopped(1, str(damaged), "send the file again")


def added(progress: Progress, batch: list[Outcome], rejects_bytes: int) -> Progress:
    """The progress behind a batch."""
    return Progress(
        outcomes=progress.outcomes + len(batch),
        rows=progress.rows + sum(outcome.rows for outcome in batch),
        events=progress.events + sum(len(outcome.events) for outcome in batch),
        rejected=progress.rejected + sum(len(outcome.rejects) for outcome in batch),
        passed=progress.passed + sum(outcome.rows for outcome in batch if outcome.passed),
        rejects_bytes=rejects_bytes,
    )


def result(path: Path, state: str, progress: Progress, rejects: Path) -> Result:
    where = str(rejects) if progress.rejected else None
    return Result(str(path), state, progress.rows, progress.events, progress.rejected, progress.passed, where)
