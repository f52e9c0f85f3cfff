"""Segments of accounts as of a date: from ClickHouse what they bought, from the registry what their members say.

    rfm     rfm-new | rfm-active | rfm-passive | rfm-lost, and of those that are neither new nor lost rfm-regular | rfm-irregular
    taste   taste-<category>
    who     who-<attribute>-<value>
"""

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from tillstream.schemas.members import SEGMENTS_MAX
from tillstream.segmenting.definition import Activity, Demography, Taste

VISITED = """
SELECT
    assumeNotNull(account_id) AS account,
    dateDiff('day', min(business_date), {as_of:Date32}) AS since_first,
    dateDiff('day', max(business_date), {as_of:Date32}) AS since_last,
    arrayMap(day -> toInt32(day), arraySort(groupUniqArrayIf(business_date, business_date > {as_of:Date32} - {lost:UInt16}))) AS days
FROM receipts
WHERE account_id IS NOT NULL AND kind = 'sale' AND business_date <= {as_of:Date32}
GROUP BY account
"""

SPENT = """
SELECT account, groupArray((category, spent)) AS spending
FROM
(
    SELECT assumeNotNull(account_id) AS account, ifNull(category_1, '') AS category, sum(net_amount) AS spent
    FROM receipt_lines
    WHERE account_id IS NOT NULL AND business_date <= {as_of:Date32} AND business_date > {as_of:Date32} - {lookback:UInt16}
    GROUP BY account, category
    HAVING spent > 0
    ORDER BY spent DESC, category
)
GROUP BY account
"""

LONGEST = 64
"""Characters of a segment's name: an attribute may hold any text."""

Segments = dict[str, list[str]]
"""By account, in order; accounts that are in none are left out."""


class Visited(NamedTuple):
    """When an account bought: days since its first and last purchase, and the days with one, as numbers, in order."""

    since_first: int
    since_last: int
    days: list[int]


def by_activity(client: Client, terms: Activity, as_of: date) -> Segments:
    """New, active, passive or lost, and regular or irregular."""
    rows = client.query(VISITED, parameters={"as_of": as_of, "lost": terms.lost_days}).result_rows
    return {account: [f"rfm-{name}" for name in activity(terms, Visited(*visited))] for account, *visited in rows}


def activity(terms: Activity, visited: Visited) -> list[str]:
    """What an account is by its purchases; the written rule is in docs/audience.md.

    >>> activity(Activity(), Visited(100, 3, [0, 30, 60, 97])), activity(Activity(), Visited(100, 70, [0, 30]))
    (['active', 'regular'], ['passive', 'irregular'])
    >>> activity(Activity(), Visited(5, 5, [0])), activity(Activity(), Visited(400, 200, []))
    (['new'], ['lost'])
    """
    if visited.since_last >= terms.lost_days:
        return ["lost"]
    if visited.since_first < terms.new_days:
        return ["new"]
    return ["active" if visited.since_last < terms.active_days else "passive", "regular" if is_regular(terms, visited) else "irregular"]


def is_regular(terms: Activity, visited: Visited) -> bool:
    """Whether the gaps between purchases are alike: their deviation is at most a share of their mean."""
    gaps = [after - before for before, after in zip(visited.days, visited.days[1:], strict=False)]
    if len(visited.days) < terms.visits_min:
        return False
    mean = sum(gaps) / len(gaps)
    return sum((gap - mean) ** 2 for gap in gaps) / len(gaps) <= (terms.deviation_max * mean) ** 2


def by_taste(client: Client, terms: Taste, as_of: date) -> Segments:
    """The top-level categories with most of the spending."""
    rows = client.query(SPENT, parameters={"as_of": as_of, "lookback": terms.days}).result_rows
    return {account: names for account, spending in rows if (names := favourites(terms, spending))}


def favourites(terms: Taste, spending: list[tuple[str, int]]) -> list[str]:
    """The categories that are large enough, the largest first; among equals the first by name.

    >>> favourites(Taste(top=2, share_min=0.3), [("dairy", 50), ("fish", 30), ("", 20)])
    ['taste-dairy', 'taste-fish']
    """
    total = sum(spent for _, spent in spending)
    largest = sorted(spending, key=lambda item: (-item[1], item[0]))
    return [named("taste", category) for category, spent in largest if category and spent >= terms.share_min * total][: terms.top]


def by_demography(terms: Demography, profile: Mapping[str, Any]) -> list[str]:
    """One segment for each of the attributes that an enrolment has; lists and the like are none.

    >>> by_demography(Demography(attributes=["age", "city"]), {"attributes": {"age": "45-54", "city": None}})
    ['who-age-45-54']
    """
    there = ((name, profile.get("attributes", {}).get(name)) for name in terms.attributes)
    return [named("who", name, str(value).lower()) for name, value in there if isinstance(value, str | int)][:SEGMENTS_MAX]


def named(*parts: str) -> str:
    """A segment's name: letters, digits and dashes."""
    return "-".join(re.sub(r"[^\w]+", "-", part).strip("-") for part in parts)[:LONGEST]
