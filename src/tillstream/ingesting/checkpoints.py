"""How far each file is: by its content and the mapping's version, so that the same file under another name is known, and a corrected
mapping reads it anew.

Delivery: a checkpoint is written after its events are acknowledged and its rejects are on disk, so a killed run repeats at most one
batch, whose events are duplicates by natural key. Kept in one SQLite file; a lock per source keeps two runs of one source apart.
"""

import fcntl
import os
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tillstream.errors import UsageError

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    version TEXT NOT NULL, content TEXT NOT NULL, name TEXT NOT NULL,
    outcomes INTEGER NOT NULL, rows INTEGER NOT NULL, events INTEGER NOT NULL, rejected INTEGER NOT NULL, passed INTEGER NOT NULL,
    rejects_bytes INTEGER NOT NULL, done INTEGER NOT NULL,
    PRIMARY KEY (version, content)
) WITHOUT ROWID
"""

BUSY_S = 30.0
"""Another source's run writes for milliseconds; longer is a broken disk."""


class Progress(NamedTuple):
    """What of a file is done: outcomes in the order of decoding.outcomes, and what they were."""

    outcomes: int = 0
    rows: int = 0
    events: int = 0
    rejected: int = 0
    passed: int = 0
    rejects_bytes: int = 0
    done: bool = False


class Checkpoints:
    """The checkpoints of one source; a context manager that holds the source's lock."""

    def __init__(self, folder: Path, source: str) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.lock = os.open(folder / f"{source}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"ingest_state {str(folder)!r}: {error.strerror}; name a folder that can be written") from None
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.store = sqlite3.connect(folder / "checkpoints.sqlite", timeout=BUSY_S, isolation_level=None)
            self.store.execute("PRAGMA synchronous = FULL")
            self.store.execute(SCHEMA)
        except BlockingIOError:
            os.close(self.lock)
            raise UsageError(f"another run of the source {source!r} is going on; one at a time keeps its reject files whole") from None
        except sqlite3.Error as error:
            os.close(self.lock)
            raise UsageError(f"ingest_state {str(folder)!r}: {error}; remove checkpoints.sqlite to read all files again") from None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.store.close()
        os.close(self.lock)

    def of(self, version: str, content: str) -> Progress:
        """How far a file is; all zeros where it is new."""
        query = "SELECT outcomes, rows, events, rejected, passed, rejects_bytes, done FROM files WHERE version = ? AND content = ?"
        row = self.store.execute(query, (version, content)).fetchone()
        return Progress(*row)._replace(done=bool(row[-1])) if row else Progress()

    def save(self, version: str, content: str, name: str, progress: Progress) -> None:
        """Notes how far a file is; on disk when this returns."""
        self.store.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (version, content, name, *progress))
