"""Seed groups: who bought certain goods, who earned by a rule, or a list.

    dated     `Bought`, `Earned`: history tells who joined the seed when, so a model is trained on the past and proved on what came after it
    listed    `Listed`: a list has no dates, so a model is proved on members of the list that it has not seen

A member of a dated seed at a date has joined within `within_days` up to and including it, or ever where that is None.
"""

import csv
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from clickhouse_connect.driver.client import Client

from tillstream.errors import UsageError
from tillstream.kernels.globs import compile_glob

GOODS_MAX = 4_000
"""Categories or articles that one glob may stand for: their names travel with the query, 300 kB here, and servers take 1 MiB."""

SHOWN_MAX = 5
"""Bad rows that are quoted; the rest are counted."""

COLUMNS = ("member_id", "account_id")
"""The column of a list is one of these."""

FIRST_DAY = date(1970, 1, 1)
"""Before every receipt."""

NAMES = """
SELECT DISTINCT assumeNotNull({column:Identifier}) AS name
FROM receipt_lines
WHERE account_id IS NOT NULL AND {column:Identifier} IS NOT NULL AND kind = 'sale' AND business_date <= {as_of:Date32}
ORDER BY name
"""

BOUGHT = """
SELECT DISTINCT assumeNotNull(account_id) AS account
FROM receipt_lines
WHERE account_id IS NOT NULL AND kind = 'sale' AND business_date > {after:Date32} AND business_date <= {until:Date32}
    AND has({goods:Array(String)}, ifNull({column:Identifier}, ''))
"""

EARNED = """
SELECT DISTINCT assumeNotNull(account_id) AS account
FROM ledger_entries
WHERE account_id IS NOT NULL AND rule_id = {rule:String} AND kind = 'accrual' AND points > 0
    AND day > {after:Date32} AND day <= {until:Date32}
"""


class Bought:
    """Who bought goods of a glob: of categories, or, after `sku:` or `brand:`, of articles or brands; those that are known at `as_of`."""

    def __init__(self, client: Client, glob: str, within_days: int | None, as_of: date) -> None:
        column, found, pattern = glob.partition(":")
        self.column, self.glob = (column, pattern) if found and column in {"sku", "brand"} else ("category", glob)
        self.client = client
        self.within_days = within_days
        matches = compile_glob(self.glob).fullmatch
        rows = client.query(NAMES, parameters={"column": self.column, "as_of": as_of}).result_rows
        self.goods = [name for (name,) in rows if matches(name)]
        if not self.goods:
            raise UsageError(f"--bought {glob}: no {self.column} that members bought up to {as_of} matches; correct the glob")
        if len(self.goods) > GOODS_MAX:
            raise UsageError(f"--bought {glob}: matches {len(self.goods)} names, at most {GOODS_MAX} are looked for; narrow the glob")

    def joined(self, after: date, until: date) -> set[str]:
        """The accounts that bought later than `after`, up to and including `until`."""
        asked = {"after": after, "until": until, "goods": self.goods, "column": self.column}
        return {row[0] for row in self.client.query(BOUGHT, parameters=asked).result_rows}


class Earned:
    """Who redeemed an offer: to whom a rule gave points."""

    def __init__(self, client: Client, rule_id: str, within_days: int | None, as_of: date) -> None:
        self.client = client
        self.rule_id = rule_id
        self.within_days = within_days
        if not self.joined(FIRST_DAY, as_of):
            raise UsageError(f"--redeemed {rule_id}: no rule of this id gave points up to {as_of}; tillstream program list shows programs")

    def joined(self, after: date, until: date) -> set[str]:
        """The accounts that got points later than `after`, up to and including `until`."""
        asked = {"after": after, "until": until, "rule": self.rule_id}
        return {row[0] for row in self.client.query(EARNED, parameters=asked).result_rows}


Dated = Bought | Earned


def seed_at(seed: Dated, day: date) -> set[str]:
    """The accounts that are in a dated seed at a date."""
    return seed.joined(FIRST_DAY if seed.within_days is None else day - timedelta(days=seed.within_days), day)


class Listed(NamedTuple):
    """A list of members, or of accounts: the name of its column, and what is in it, in order."""

    column: str
    names: list[str]


def read_list(path: Path) -> Listed:
    """A CSV file with a column `member_id` or `account_id`; other columns are passed over.

    Raises:
        UsageError: it can't be read, has no such column, is empty, or has rows without a name; names the rows.
    """
    rows = read_csv(path)
    column = next((name for name in COLUMNS if name in (rows[0] if rows else ())), None)
    if column is None:
        raise UsageError(f"{path}: no column member_id or account_id in the first line, or nothing below it; add one")
    place = rows[0].index(column)
    bad = [number for number, row in enumerate(rows[1:], 2) if len(row) <= place or not row[place].strip()]
    if bad:
        raise UsageError(f"{path}: no {column} in {lines(bad)}; fill it in or take the rows out")
    return Listed(column, list(dict.fromkeys(row[place].strip() for row in rows[1:])))


def read_csv(path: Path) -> list[list[str]]:
    """The rows of a CSV file in UTF-8, blank ones left out, the header first.

    Raises:
        UsageError: it can't be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [row for row in csv.reader(file, strict=True) if row]
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: no CSV file in UTF-8: {error}") from None


def lines(numbers: Sequence[int]) -> str:
    """Some line numbers in words.

    >>> lines([2, 5])
    'lines 2, 5'
    """
    shown = ", ".join(str(number) for number in numbers[:SHOWN_MAX])
    more = f" and {len(numbers) - SHOWN_MAX} more" if len(numbers) > SHOWN_MAX else ""
    return f"line{'s' if len(numbers) > 1 else ''} {shown}{more}"
