"""An audience found: the seed's accounts, scores for everybody else, and of these the best that may be addressed.

In: a definition, ClickHouse (features), Redis (who is who, and consents). Out: a CSV file `member_id,account_id,score,decile`, hashed
contacts and a report where asked for, and a summary of what was done. Nobody is scored, or learned from, without consent to profiling.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from tillstream.audience.contacts import COLUMNS as CONTACT_COLUMNS
from tillstream.audience.contacts import hashed, read_contacts
from tillstream.audience.definition import Definition
from tillstream.audience.features import LOOKBACK_DAYS
from tillstream.audience.files import replace_csv
from tillstream.audience.likeness import Say, Scored, by_list, by_time, import_sklearn
from tillstream.audience.people import PROFILING, Crowd, crowd
from tillstream.audience.proof import TENTHS, prove
from tillstream.audience.report import check_report, write_report
from tillstream.audience.seeds import Bought, Earned, read_list, seed_at
from tillstream.config import Config
from tillstream.errors import CheckFailed, UsageError
from tillstream.servers import clickhouse_of, failures_named, redis_of
from tillstream.sinks.registry import RegistryStore

COLUMNS = ("member_id", "account_id", "score", "decile")

LATEST = "SELECT max(business_date), count() FROM receipts WHERE account_id IS NOT NULL"


BOUGHT_LATELY = """
SELECT DISTINCT assumeNotNull(account_id) AS account
FROM receipts
WHERE account_id IS NOT NULL AND kind = 'sale' AND business_date <= {as_of:Date32} AND business_date > {as_of:Date32} - {lookback:UInt16}
"""


class Ranked(NamedTuple):
    """A member of the audience; `decile` is its account's tenth of all that were scored, 1 the highest."""

    member_id: str
    account_id: str
    score: float
    decile: int


class Found(NamedTuple):
    """Scores, and who the seed is: the words for it, its accounts, and those of a list that nobody knows."""

    kind: str
    what: str
    scored: Scored
    seed_accounts: int
    unknown: list[str]


async def find_audience(config: Config, definition: Definition, as_of: date | None, say: Say) -> dict[str, Any]:
    """Finds an audience and writes its files; the object that `audience --json` prints.

    Raises:
        CheckFailed: history is too thin for a model, or nobody may be scored.
        UsageError: an option or a file is wrong, or a server is away.
    """
    check_report(definition.report)
    import_sklearn()
    clickhouse = clickhouse_of(config)
    with failures_named(config):
        day = as_of or latest_day(clickhouse)
        say("members and their consents")
        async with redis_of(config) as redis:
            everybody = await crowd(RegistryStore(redis), datetime.now(UTC))
        left_out = not_profiled(clickhouse, day, everybody)
        found = score(clickhouse, definition, day, everybody, say)
    ranked = addressable(found.scored, everybody, definition.purposes, left_out)
    chosen = ranked[: how_many(definition, len(ranked))]
    replace_csv(definition.written_to, COLUMNS, chosen)
    contacts = hand_over(config, definition, chosen)
    proof = prove(found.scored.proof_scores, found.scored.proof_joined)
    summary = {
        "name": definition.name,
        "as_of": day.isoformat(),
        "horizon_days": definition.horizon_days,
        "seed": {"kind": found.kind, "what": found.what, "accounts": found.seed_accounts, "unknown": len(found.unknown)},
        "scored": len(found.scored.accounts),
        "addressable": len(ranked),
        "audience": len(chosen),
        "left_out": dict(sorted(left_out.items())),
        "output": str(definition.written_to),
        "contacts": contacts,
        "method": found.scored.method,
        "dates": [each.isoformat() for each in found.scored.dates],
        "proof": proof.as_json(),
        "drivers": [{"feature": name, "weight": weight} for name, weight in found.scored.drivers],
    }
    if definition.report is not None:
        write_report(Path(definition.report), summary, proof)
    return summary


def latest_day(client: Client) -> date:
    """The latest business date of a member's receipt.

    Raises:
        CheckFailed: history has none.
    """
    day, count = client.query(LATEST).result_rows[0]
    if not count:
        raise CheckFailed("ClickHouse has no receipt of a member yet; let a worker --role history write some")
    found: date = day
    return found


def not_profiled(client: Client, day: date, everybody: Crowd) -> Counter[str]:
    """How many of the accounts that bought lately are nobody's, and how many may not be profiled."""
    rows = client.query(BOUGHT_LATELY, parameters={"as_of": day, "lookback": LOOKBACK_DAYS}).result_rows
    known = [account for (account,) in rows if account in everybody.of_account]
    refused = sum(not everybody.may_profile(account) for account in known)
    return Counter({"not_enrolled": len(rows) - len(known), f"no_consent_to_{PROFILING}": refused})


def score(client: Client, definition: Definition, day: date, everybody: Crowd, say: Say) -> Found:
    """Scores of all that are not in the seed."""
    may: Callable[[str], bool] = everybody.may_profile
    if not any(may(account) for account in everybody.of_account):
        raise CheckFailed(f"nobody has agreed to {PROFILING}; without that consent nobody is scored (docs/audience.md)")
    if definition.seed is not None:
        listed = read_list(Path(definition.seed))
        known = everybody.account_of if listed.column == "member_id" else {account: account for account in everybody.of_account}
        accounts = {known[name] for name in listed.names if name in known}
        unknown = [name for name in listed.names if name not in known]
        if not accounts:
            raise UsageError(f"{definition.seed}: no {listed.column} of it takes part; the first is {listed.names[0]!r}")
        return Found("list", definition.seed, by_list(client, accounts, day, may, say), len(accounts), unknown)
    kind, what = ("bought", definition.bought) if definition.bought is not None else ("redeemed", definition.redeemed or "")
    seed = (Bought if kind == "bought" else Earned)(client, what, definition.within_days, day)
    scored = by_time(client, seed, day, definition.horizon_days, may, say)
    return Found(kind, what, scored, len(seed_at(seed, day)), [])


def addressable(scored: Scored, everybody: Crowd, purposes: Sequence[str], left_out: Counter[str]) -> list[Ranked]:
    """The members of scored accounts that have agreed to all purposes, the highest score first; the others are counted by reason."""
    found = []
    order = sorted(range(len(scored.accounts)), key=lambda place: (-round(float(scored.scores[place]), 6), scored.accounts[place]))
    for rank, place in enumerate(order):
        account, points = scored.accounts[place], round(float(scored.scores[place]), 6)
        for person in everybody.of_account[account]:
            refused = next((purpose for purpose in purposes if not person.agrees(purpose)), None)
            if refused is None:
                found.append(Ranked(person.member_id, account, points, rank * TENTHS // len(order) + 1))
            else:
                left_out[f"no_consent_to_{refused}"] += 1
    return found


def how_many(definition: Definition, there: int) -> int:
    """How many of the members that may be addressed are taken."""
    return definition.top if definition.top is not None else math.ceil((definition.share or 0) * there)


def hand_over(config: Config, definition: Definition, chosen: Sequence[Ranked]) -> dict[str, int] | None:
    """Writes the hashed contacts of the audience; how many there are, and what was wrong with others. None: they are not asked for."""
    if definition.contacts is None or definition.hashed_contacts is None:
        return None
    members = {each.member_id for each in chosen}
    problems = Counter[str]()
    contacts = read_contacts(Path(definition.contacts), members, config.phone_region, problems)
    rows = list(hashed(contacts.values()))
    replace_csv(Path(definition.hashed_contacts), CONTACT_COLUMNS, rows)
    return {"rows": len(rows), "without_contact": len(members - contacts.keys()), **problems}
