"""Features of accounts as of a date, by one SQL statement over the views that analysts read (docs/analyst.md).

In: a client, a date, the top-level categories to look at. Out: a row of numbers per account that bought within `LOOKBACK_DAYS` before.

Everything is of the `LOOKBACK_DAYS` up to and including the date, by the stores' local dates, so that two dates compare; only `tenure_days`
looks at the whole history. What is dated later is not read, so it can't change a feature. Amounts and points go in as logarithms: they are
spread over three orders of magnitude.
"""

from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from clickhouse_connect.driver.client import Client

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

LOOKBACK_DAYS = 182
"""Half a year: long enough for the gaps of a monthly shopper, short enough that a year of history can train and prove a model."""

RECENT_DAYS = 28
"""What a shop calls `lately`: four whole weeks, so that every weekday is in it equally often."""

CATEGORIES_MAX = 24
"""Top-level categories with a share of their own, by turnover; a shop has some twenty that matter, what is left is in none of them."""

DAY_PARTS = (0, 10, 14, 18, 24)
"""Hours at which the parts of a day begin: before work, noon, afternoon, evening."""

CATEGORIES = """
SELECT category_1
FROM receipt_lines
WHERE account_id IS NOT NULL AND category_1 IS NOT NULL
    AND business_date <= {as_of:Date32} AND business_date > {as_of:Date32} - {lookback:UInt16}
GROUP BY category_1
ORDER BY sum(net_amount) DESC, category_1
LIMIT {most:UInt16}
"""

FEATURES = """
WITH {as_of:Date32} AS as_of, as_of - {lookback:UInt16} AS before, as_of - {recent:UInt16} AS lately
SELECT
    account,
    [
        dateDiff('day', last_bought, as_of), dateDiff('day', first_ever, as_of), visits, visits_lately,
        log1p(greatest(spent, 0) / 100), log1p(greatest(spent_lately, 0) / 100), log1p(greatest(spent, 0) / 100 / visits),
        if(length(gaps) = 0, {lookback:UInt16}, arrayAvg(gaps)),
        if(length(gaps) < 2, 0, sqrt(arrayAvg(arrayMap(gap -> pow(gap - arrayAvg(gaps), 2), gaps)))),
        stores, skus, lines / visits, taken_off / greatest(shelf, 1), returned / greatest(bought, 1),
        log1p(greatest(points_earned, 0)), log1p(greatest(points_used, 0))
    ] AS numbers,
    arrayMap(count -> count / visits, weekdays) AS of_weekdays,
    arrayMap(count -> count / visits, day_parts) AS of_day_parts,
    arrayMap(name -> of_categories[name] / greatest(bought, 1), {categories:Array(String)}) AS shares
FROM
(
    SELECT
        assumeNotNull(account_id) AS account,
        maxIf(business_date, kind = 'sale') AS last_bought, minIf(business_date, kind = 'sale') AS first_ever,
        countIf(kind = 'sale' AND business_date > before) AS visits, countIf(kind = 'sale' AND business_date > lately) AS visits_lately,
        sumIf(net_amount, business_date > before) AS spent, sumIf(net_amount, business_date > lately) AS spent_lately,
        arraySort(groupUniqArrayIf(business_date, kind = 'sale' AND business_date > before)) AS days,
        arrayPopFront(arrayDifference(arrayMap(day -> toInt32(day), days))) AS gaps,
        uniqExactIf(store_id, kind = 'sale' AND business_date > before) AS stores,
        sumForEachIf(arrayMap(day -> toUInt32(toDayOfWeek(issued_local) = day), range(1, 8)), kind = 'sale' AND business_date > before)
            AS weekdays,
        sumForEachIf(
            arrayMap((first, next) -> toUInt32(toHour(issued_local) >= first AND toHour(issued_local) < next),
                {begins:Array(UInt8)}, {ends:Array(UInt8)}),
            kind = 'sale' AND business_date > before
        ) AS day_parts
    FROM receipts
    WHERE account_id IS NOT NULL AND business_date <= as_of
    GROUP BY account
    HAVING visits > 0
) AS visited
LEFT JOIN
(
    SELECT
        assumeNotNull(account_id) AS account,
        uniqExact(sku) AS skus, countIf(kind = 'sale') AS lines,
        sumIf(discount, kind = 'sale') AS taken_off, sumIf(amount + discount, kind = 'sale') AS shelf,
        sumIf(amount, kind = 'sale') AS bought, sumIf(amount, kind != 'sale') AS returned,
        sumMapIf(map(ifNull(category_1, ''), amount), kind = 'sale') AS of_categories
    FROM receipt_lines
    WHERE account_id IS NOT NULL AND business_date <= as_of AND business_date > before
    GROUP BY account
) AS goods USING (account)
LEFT JOIN
(
    SELECT
        assumeNotNull(account_id) AS account,
        sumIf(points, kind IN ('accrual', 'reversal') AND rule_id IS NOT NULL) AS points_earned,
        -sumIf(points, kind IN ('redemption', 'capture')) AS points_used
    FROM ledger_entries
    WHERE account_id IS NOT NULL AND day <= as_of AND day > before
    GROUP BY account
) AS moved USING (account)
ORDER BY account
"""

NUMBERS = (
    *("recency_days", "tenure_days", "visits", "visits_lately", "money", "money_lately", "basket", "gap_mean_days", "gap_deviation_days"),
    *("stores", "skus", "lines_per_visit", "discount_share", "return_share", "points_earned", "points_used"),
)
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Matrix(NamedTuple):
    """Accounts in order, the features' names, and the values, one row an account, (accounts, features) of 64-bit floats."""

    accounts: list[str]
    names: list[str]
    values: "NDArray[float64]"

    def rows(self, places: Sequence[int]) -> "Matrix":
        """Some of the rows."""
        return Matrix([self.accounts[place] for place in places], self.names, self.values[list(places)])


def categories(client: Client, as_of: date) -> list[str]:
    """The top-level categories with most turnover up to a date, at most `CATEGORIES_MAX`."""
    asked = {"as_of": as_of, "lookback": LOOKBACK_DAYS, "most": CATEGORIES_MAX}
    return [row[0] for row in client.query(CATEGORIES, parameters=asked).result_rows]


def features(client: Client, as_of: date, shares_of: Sequence[str]) -> Matrix:
    """The features of all accounts that bought within `LOOKBACK_DAYS` up to `as_of`, with the shares of some categories.

    Raises:
        clickhouse_connect's DatabaseError: ClickHouse could not answer.
    """
    import numpy

    asked = {
        **{"as_of": as_of, "lookback": LOOKBACK_DAYS, "recent": RECENT_DAYS, "categories": list(shares_of)},
        **{"begins": list(DAY_PARTS[:-1]), "ends": list(DAY_PARTS[1:])},
    }
    names = [
        *NUMBERS,
        *(f"weekday_{day}" for day in WEEKDAYS),
        *(f"from_{first:02}_to_{end:02}" for first, end in pairwise(DAY_PARTS)),
        *(f"share_{name}" for name in shares_of),
    ]
    columns = client.query(FEATURES, parameters=asked).result_columns
    if not columns:
        return Matrix([], names, numpy.empty((0, len(names))))
    accounts, *parts = columns
    values = numpy.hstack([numpy.asarray(part, dtype=numpy.float64).reshape(len(accounts), -1) for part in parts])
    return Matrix(list(accounts), names, values)
