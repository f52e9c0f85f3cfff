"""The reject file: a JSON object a line for each row that is not taken, to be read by people and by programs.

`{"file", "row", "field", "from", "message", "fix", "raw", "rest"}`: the event's field, the source's fields it comes from, the row itself.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import orjson

from tillstream.errors import UsageError
from tillstream.sources.ingest.decoding import Reject

SUFFIX = ".rejects.jsonl"

OWNER_ONLY = 0o600
"""Rows may hold card numbers."""


def reject_line(file: str, reject: Reject) -> bytes:
    """One line of the reject file."""
    told = {"file": file, "row": reject.row, "field": reject.field, "from": reject.origin, "message": reject.message, "fix": reject.fix}
    return orjson.dumps({**told, "raw": reject.raw, "rest": reject.rest}, option=orjson.OPT_APPEND_NEWLINE)


class RejectFile:
    """Appends to one reject file, which is made with the first reject; what is behind `size` bytes is of a run that was killed."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = 0
        self.file: BinaryIO | None = None
        if path.exists():
            os.truncate(path, min(size, path.stat().st_size))
            self.size = path.stat().st_size
            if self.size == 0:
                path.unlink()

    def __enter__(self) -> "RejectFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.file is not None:
            self.file.close()

    def write(self, lines: Iterable[bytes]) -> None:
        """Appends lines; on disk when this returns.

        Raises:
            UsageError: the file cannot be written.
        """
        text = b"".join(lines)
        if not text:
            return
        try:
            if self.file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.file = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, OWNER_ONLY), "ab")
            self.file.write(text)
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as error:
            raise UsageError(f"rejects {str(self.path)!r}: {error.strerror}; say files.rejects in the mapping") from None
        self.size += len(text)
