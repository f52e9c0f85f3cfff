"""The member with most points, and in one sentence each why some lines gave them: what the demo ends with."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from tillstream.schemas.program_file import Versioned
from tillstream.schemas.program_words import money
from tillstream.schemas.programs import Award, Rule, award_form

TOP = """
SELECT account_id, sum(points) AS balance, countIf(kind = 'accrual') AS accruals
FROM ledger_entries
WHERE account_id IS NOT NULL AND unit = {unit:String}
GROUP BY account_id
ORDER BY balance DESC, account_id
LIMIT 1
"""

LINES = """
SELECT e.receipt_id, e.line_no, e.rule_id, e.points, e.basis, e.award, toString(e.expires_on), toString(e.day), l.category, l.amount
FROM ledger_entries AS e
INNER JOIN receipt_lines AS l ON l.posting_id = e.posting_id AND l.line_no = e.line_no
WHERE e.account_id = {account:String} AND e.kind = 'accrual'
ORDER BY e.points DESC, e.entry_id
LIMIT 1 BY e.rule_id
LIMIT {limit:UInt32}
"""


class ExplainedLine(NamedTuple):
    """One line, the rule that gave it points, and the sentence that says why."""

    receipt_id: str
    line_no: int
    rule_id: str
    points: int
    why: str


class TopMember(NamedTuple):
    """The account with most points, and some of its lines."""

    account_id: str
    balance: int
    lines: list[ExplainedLine]


def explain_top(client: Client, program: Versioned, unit: str = "points", limit: int = 3) -> TopMember | None:
    """The account that holds most of a unit, with its best line of each of `limit` rules explained; None where nobody has any."""
    top = client.query(TOP, parameters={"unit": unit}).result_rows
    if not top:
        return None
    account_id, balance, _ = top[0]
    rows = client.query(LINES, parameters={"account": account_id, "limit": limit}).result_rows
    rules = {rule.id: rule for rule in program.program.rules}
    currency = program.program.program.currency
    lines = [ExplainedLine(row[0], row[1], row[2], row[3], sentence(rules[row[2]], row, currency)) for row in rows]
    return TopMember(account_id, balance, lines)


def sentence(rule: Rule, row: Sequence[Any], currency: str) -> str:
    """Rule, formula, basis, award, share, expiry."""
    _, _, _, points, basis, award, expires_on, day, category, amount = row
    capped = f", cut to {rule.cap.per_receipt} by its cap" if rule.cap.per_receipt is not None and award > rule.cap.per_receipt else ""
    until = f"; usable until {expires_on}" if expires_on else ""
    return (
        f"{day}, {category or 'goods'} for {money(amount)} {currency}: rule {rule.id} ({formula(rule.award)}) "
        f"saw {money(basis)} {currency} and gave {award}{capped}; {points} of them fall to this line by its share{until}"
    )


def formula(award: Award) -> str:
    """The award in words."""
    form = award_form(award)
    if form == "per_amount":
        return f"{award.points} per {money(award.per_amount or 0)}"
    if form == "per_item":
        return f"{award.points} for every {award.per_item} of an article"
    if form == "per_line":
        return f"{award.points} for every {award.per_line} lines"
    if form == "fixed":
        return f"{award.fixed} at once"
    if form == "steps":
        return ", ".join(f"{points} from {money(least)}" for least, points in award.steps or [])
    return f"{award.multiply} times the points of {award.of}"
