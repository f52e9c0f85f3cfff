"""The file of a batch's codes: CSV, for a printer or a mailing, `code,series,batch,member_id,worth,expires`; readable by its owner only."""

import csv
import os
import secrets
from collections.abc import Callable, Iterator
from datetime import date, datetime
from itertools import islice, repeat
from pathlib import Path
from typing import NamedTuple

from tillstream.errors import UsageError
from tillstream.kernels.voucher_codes import CHANCE_SYMBOLS, code_of, grouped
from tillstream.schemas.offers import Worth

COLUMNS = ("code", "series", "batch", "member_id", "worth", "expires")

PART = ".part"
"""What a file's name ends in while it is not whole."""

OWNER_ONLY = 0o600

WRITTEN_CODES = 50_000
"""Codes in one write: some three megabytes."""


class Order(NamedTuple):
    """A batch to be made: `worth_text` as it was asked for; valid up to the end of `expires` in its time zone, `valid_until`.

    `member_file`: a CSV file whose column `member_id` says whose each code is; None: whoever brings them.
    """

    series: str
    batch: str
    codes: int
    worth: Worth
    worth_text: str
    expires: date
    valid_until: datetime
    valid_from: datetime | None = None
    member_file: Path | None = None


class Row(NamedTuple):
    """One code as the file has it, grouped, and whose it is ('': whoever brings it)."""

    code: str
    member_id: str


def write_codes(order: Order, path: Path, progress: Callable[[str, int], None]) -> None:
    """Makes the codes and writes the file; it is whole and on disk when it has its name.

    Raises:
        UsageError: it can't be written, or the members can't be read.
    """
    part = path.with_name(path.name + PART)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY), "w", encoding="utf-8", newline="") as file:
            os.fchmod(file.fileno(), OWNER_ONLY)  # Also of one that an earlier run left.
            out = csv.writer(file, lineterminator="\n")
            out.writerow(COLUMNS)
            written = 0
            owners = owners_of(order)
            while some := list(islice(owners, WRITTEN_CODES)):
                out.writerows(rows(order, some))
                written += len(some)
                progress("written", written)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise UsageError(f"--out {path}: {error.strerror}; name a file that can be written") from None


def rows(order: Order, owners: list[str]) -> Iterator[tuple[str, ...]]:
    """Lines of the file, with fresh codes."""
    chance = secrets.token_bytes(CHANCE_SYMBOLS * len(owners))
    rest = (order.worth_text, order.expires.isoformat())
    for first, owner in zip(range(0, len(chance), CHANCE_SYMBOLS), owners, strict=True):
        yield (grouped(code_of(chance[first : first + CHANCE_SYMBOLS])), order.series, order.batch, owner, *rest)


def owners_of(order: Order) -> Iterator[str]:
    """Whose each code is."""
    return repeat("", order.codes) if order.member_file is None else members_in(order.member_file)


def members_in(path: Path) -> Iterator[str]:
    """The members that a CSV file lists in its column `member_id`.

    Raises:
        UsageError: it can't be read, has no such column, or a line without a member.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file)
            if "member_id" not in (lines.fieldnames or ()):
                raise UsageError(f"--member-file {path}: no column member_id; its first line must name the columns")
            for line in lines:
                member = (line["member_id"] or "").strip()
                if not 1 <= len(member) <= 256:
                    where = f"--member-file {path}, line {lines.line_num}"
                    raise UsageError(f"{where}: member_id has {len(member)} characters, 1 to 256 are allowed")
                yield member
    except OSError as error:
        raise UsageError(f"--member-file {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--member-file {path}: no CSV in UTF-8: {error}") from None


def count_members(path: Path) -> int:
    """How many members a file lists; raises UsageError as `members_in`."""
    return sum(1 for _ in members_in(path))


def read_rows(order: Order, path: Path) -> Iterator[Row]:
    """The codes of a file that was written for this order.

    Raises:
        UsageError: it is the file of another one, or none.
    """
    wanted = (order.series, order.batch, order.worth_text, order.expires.isoformat())
    for place, line in enumerate(lines_in(path), 2):
        code, series, batch, member, worth, expires = line
        if (series, batch, worth, expires) != wanted:
            told = ", ".join((series, batch, worth, expires))
            raise UsageError(f"--out {path}, line {place}: is of another batch: {told}, and not {', '.join(wanted)}; give another --out")
        yield Row(code, member)


def lines_in(path: Path) -> Iterator[list[str]]:
    """The lines of a file of codes, without the first.

    Raises:
        UsageError: it is none, or can't be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            found = csv.reader(file)
            if tuple(next(found, ())) != COLUMNS:
                raise UsageError(f"{path}: no file of codes; its first line is not {','.join(COLUMNS)}")
            for line in found:
                if len(line) != len(COLUMNS):
                    raise UsageError(f"{path}, line {found.line_num}: {len(line)} columns, not {len(COLUMNS)}")
                yield line
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: no CSV in UTF-8: {error}") from None


def sync_folder(folder: Path) -> None:
    """Makes a file's new name last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
