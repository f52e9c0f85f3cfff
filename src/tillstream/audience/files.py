"""Files that are there whole or not at all: what reads them on a schedule never sees a half."""

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from tillstream.errors import UsageError


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file in place of the one that is there, readable by its owner only: it is about persons.

    Raises:
        UsageError: it can't be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        part.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def replace_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Writes a CSV file in place of the one that is there.

    Raises:
        UsageError: it can't be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    replace_file(path, text.getvalue().encode())
