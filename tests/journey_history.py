"""The Complete Journey in ClickHouse's tables within seconds: read from its parquet files by SQL, as history would have written it.

Categories are those of sources/complete_journey.py up to their second level. Every receipt has a posting with one entry of a rule `base`, a
point per dollar.
"""

from pathlib import Path

from clickhouse_connect.driver.client import Client

from tillstream.sources.complete_journey import _file

SLUG = "trim(BOTH '-' FROM replaceRegexpAll(lower({}), '[^a-z0-9]+', '-'))"

DEPARTMENT = SLUG.format("ifNull(department, 'unknown')")
CATEGORY = SLUG.format("ifNull(product_category, 'unknown')")

SALES = f"""
CREATE TABLE journey ENGINE = Memory AS
SELECT
    basket_id, any(household_id) AS household, toString(any(store_id)) AS store, any(transaction_timestamp) AS time,
    groupArray(toString(product_id)) AS skus,
    groupArray(category) AS categories,
    groupArray(toInt64(quantity) * 1000) AS quantities, groupArray(toInt64(round(sales_value * 100))) AS amounts,
    groupArray(toInt64(round((retail_disc + coupon_disc + coupon_match_disc) * 100))) AS discounts
FROM file('{{transactions}}', Parquet) AS t
LEFT JOIN
(
    SELECT product_id, concat({DEPARTMENT}, '/', {CATEGORY}) AS category
    FROM file('{{products}}', Parquet)
) AS p ON t.product_id = p.product_id
WHERE household_id % {{every}} = 0
GROUP BY basket_id
"""

KEY = "toFixedString(substring(SHA256(toString(basket_id)), 1, 16), 16)"
HEAD = f"toDate32(time) AS occurred_on, {KEY} AS posting_id, {KEY} AS digest, 'sale' AS kind, {KEY} AS sale_id"

RECEIPTS = f"""
INSERT INTO receipts_log
SELECT
    {HEAD}, 'pos' AS source, toString(basket_id) AS receipt_id, store AS store_id, '1' AS register_id,
    toDate32(toTimeZone(toDateTime(time, 'UTC'), 'America/New_York')) AS business_date, toDateTime64(time, 3, 'UTC') AS issued_at,
    dateDiff('minute', toDateTime(time, 'UTC'), toDateTime(toString(toTimeZone(toDateTime(time, 'UTC'), 'America/New_York')), 'UTC')),
    'USD', NULL, NULL,
    arrayMap(n -> toInt64(n), arrayEnumerate(skus)), arrayMap(n -> NULL, skus), skus, categories, arrayMap(n -> 'any', skus),
    arrayMap(n -> 'item', skus), quantities, amounts, discounts, ['card'], [arraySum(amounts)], 0, rowNumberInAllBlocks(), 0
FROM journey
SETTINGS max_partitions_per_insert_block = 0
"""

POSTINGS = f"""
INSERT INTO postings_log (
    occurred_on, posting_id, digest, kind, sale_id, account_id, source, event_id, receipt_id, occurred_at, utc_offset_minutes, day,
    `undone.line_no`, `undone.quantity_milli`, `undone.amount`, `entries.unit`, `entries.kind`, `entries.points`, `entries.line_no`,
    `entries.rule_id`, `entries.expires_on`, `entries.spent_on`, `entries.reverses`, `entries.uncovered`, `entries.basis`, `entries.award`,
    `entries.beyond_terms`, `entries.hold_id`, `entries.until`, kafka_partition, kafka_offset
)
SELECT
    {HEAD}, concat('hh-', toString(household)), 'pos', toString(basket_id), toString(basket_id), toDateTime64(time, 3, 'UTC'), -300,
    toDate32(toTimeZone(toDateTime(time, 'UTC'), 'America/New_York')), [], [], [],
    ['points'], ['accrual'], [intDiv(arraySum(amounts), 100)], [NULL], ['base'], [NULL], [NULL], [NULL], [false],
    [arraySum(amounts)], [intDiv(arraySum(amounts), 100)], [false], [NULL], [NULL], 0, rowNumberInAllBlocks()
FROM journey
SETTINGS max_partitions_per_insert_block = 0
"""


def write_journey(client: Client, every: int = 1) -> None:
    """Fills migrated tables with all 155,848 receipts, or with those of every second, third, ... household."""
    files: dict[str, Path] = {name: _file(name) for name in ("transactions", "products")}
    client.command(SALES.format(**files, every=every))
    client.command(RECEIPTS)
    client.command(POSTINGS)
    client.command("DROP TABLE journey")
