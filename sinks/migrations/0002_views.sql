-- What analysts read: exact however often a block was inserted, because each view reads its tables with FINAL.
-- A receipt is there once the ledger has posted it; conflicts and refused events are not.
--
-- do_not_merge_across_partitions_select_final is right here: the partition is a function of the sorting key.

CREATE VIEW IF NOT EXISTS accepted_receipts AS
SELECT
    r.*,
    p.account_id AS account_id,
    p.event_id AS event_id,
    p.program_version AS program_version,
    multiIf(
        r.currency IN ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'VND', 'VUV', 'XAF', 'XOF', 'XPF'), 1,
        r.currency IN ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND'), 1000,
        100
    ) AS minor_units
FROM (SELECT * FROM receipts_log FINAL) AS r
INNER JOIN
(
    SELECT posting_id, digest, account_id, event_id, program_version
    FROM postings_log FINAL
    WHERE kind IN ('sale', 'return')
) AS p ON r.posting_id = p.posting_id AND r.digest = p.digest
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Internal: sales and returns that the ledger accepted, one row each, lines in arrays as they were issued';

CREATE VIEW IF NOT EXISTS receipt_documents AS
SELECT
    posting_id, kind, sale_id, source, event_id, receipt_id, account_id, program_version, original_source, original_receipt_id,
    store_id, register_id, business_date, issued_at, utc_offset_minutes, currency, minor_units, 1 AS sign,
    lines.line_no AS line_no, lines.original_line_no AS original_line_no, lines.sku AS sku, lines.category AS category,
    lines.brand AS brand, lines.kind AS line_kind, lines.quantity_milli AS quantity_milli, lines.amount AS amount,
    lines.discount AS discount, tenders.type AS tender_types, tenders.amount AS tender_amounts
FROM accepted_receipts
WHERE kind = 'sale'
UNION ALL
SELECT
    u.posting_id, u.kind, u.sale_id, u.source, u.event_id, u.receipt_id, u.account_id, u.program_version, u.original_source,
    u.original_receipt_id, if(u.kind = 'void', s.store_id, u.store_id), if(u.kind = 'void', s.register_id, u.register_id),
    u.business_date, u.issued_at, u.utc_offset_minutes, if(u.kind = 'void', s.currency, u.currency),
    if(u.kind = 'void', s.minor_units, u.minor_units), -1,
    u.line_no, u.original_line_no,
    arrayMap(number -> s.sku[indexOf(s.line_no, number)], u.original_line_no),
    arrayMap(number -> s.category[indexOf(s.line_no, number)], u.original_line_no),
    arrayMap(number -> s.brand[indexOf(s.line_no, number)], u.original_line_no),
    arrayMap(number -> s.line_kind[indexOf(s.line_no, number)], u.original_line_no),
    u.quantity_milli, u.amount, arrayMap(amount -> 0, u.amount), u.tender_types, u.tender_amounts
FROM
(
    SELECT
        posting_id, kind, sale_id, source, event_id, receipt_id, account_id, program_version, original_source, original_receipt_id,
        store_id, register_id, business_date, issued_at, utc_offset_minutes, currency, minor_units,
        lines.line_no AS line_no, lines.original_line_no AS original_line_no, lines.quantity_milli AS quantity_milli,
        lines.amount AS amount, tenders.type AS tender_types, tenders.amount AS tender_amounts
    FROM accepted_receipts
    WHERE kind = 'return'
    UNION ALL
    SELECT
        posting_id, kind, sale_id, source, event_id, assumeNotNull(receipt_id), account_id, program_version, NULL, NULL,
        '', '', day, occurred_at, utc_offset_minutes, '', 100,
        undone.line_no, arrayMap(number -> toNullable(number), undone.line_no), undone.quantity_milli, undone.amount, [], []
    FROM postings_log FINAL
    WHERE kind = 'void'
) AS u
LEFT JOIN
(
    SELECT
        posting_id, store_id, register_id, currency, minor_units, lines.line_no AS line_no, lines.sku AS sku,
        lines.category AS category, lines.brand AS brand, lines.kind AS line_kind
    FROM accepted_receipts
    WHERE kind = 'sale' AND posting_id IN (SELECT sale_id FROM postings_log WHERE kind IN ('return', 'void'))
) AS s ON u.sale_id = s.posting_id
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Internal: accepted sales, returns and voids, one row each; what the lines of returns and voids are, their sale tells';

CREATE VIEW IF NOT EXISTS receipts
(
    posting_id String COMMENT 'Natural key, 32 hexadecimal digits; ledger_entries.posting_id',
    kind String COMMENT 'sale, return or void',
    source String COMMENT 'Who issued the receipt',
    event_id String COMMENT 'id of the event that was accepted',
    receipt_id String COMMENT 'The receipt, unique within its source; of a void, the sale that it undoes',
    sale_id String COMMENT 'Natural key of the sale: its own, or the one that is undone',
    original_source Nullable(String) COMMENT 'Of a return: who issued the sale',
    original_receipt_id Nullable(String) COMMENT 'Of a return: the receipt of the sale',
    account_id Nullable(String) COMMENT 'The account; NULL is an anonymous receipt. A return has the account of its sale',
    store_id String COMMENT 'The store; of a void, the store of the sale',
    register_id String COMMENT 'The till in the store',
    business_date Date32 COMMENT 'The day to which the store counts the receipt; of a void, its local date',
    issued_at DateTime64(3, 'UTC') COMMENT 'When it was issued, UTC',
    utc_offset_minutes Int16 COMMENT 'Local time minus UTC, minutes',
    issued_local DateTime64(3, 'UTC') COMMENT 'Wall clock time at the till; use it for hours and weekdays',
    currency String COMMENT 'ISO 4217 code of all amounts',
    line_count UInt32 COMMENT 'Number of lines',
    amount Int64 COMMENT 'Sum of the lines, minor units of currency (1599 is 15.99), never negative',
    discount Int64 COMMENT 'Sum of the discounts of the lines, minor units; 0 in returns and voids',
    net_amount Int64 COMMENT 'Minor units with a sign: sales count up, returns and voids down. Sum it for turnover',
    net_money Decimal(38, 3) COMMENT 'net_amount in units of currency, exact',
    tender_types Array(String) COMMENT 'Means of payment',
    tender_amounts Array(Int64) COMMENT 'What each of them paid, minor units',
    program_version Nullable(String) COMMENT 'Hash of the program that judged it'
)
AS
SELECT
    lower(hex(posting_id)) AS posting_id, kind, source, event_id, receipt_id, lower(hex(sale_id)) AS sale_id,
    original_source, original_receipt_id, account_id, store_id, register_id, business_date, issued_at, utc_offset_minutes,
    issued_at + toIntervalMinute(utc_offset_minutes) AS issued_local, currency, length(line_no) AS line_count,
    amount, arraySum(discount) AS discount, sign * amount AS net_amount,
    toDecimal128(net_amount, 3) / minor_units AS net_money, tender_types, tender_amounts, program_version
FROM (SELECT * REPLACE arraySum(amount) AS amount FROM receipt_documents)
COMMENT 'Accepted sales, returns and voids, each once';

CREATE VIEW IF NOT EXISTS receipt_lines
(
    posting_id String COMMENT 'Natural key of the receipt, 32 hexadecimal digits',
    kind String COMMENT 'Of the receipt: sale, return or void',
    source String COMMENT 'Who issued the receipt',
    receipt_id String COMMENT 'The receipt; of a void, the sale that it undoes',
    sale_id String COMMENT 'Natural key of the sale: its own, or the one that is undone',
    account_id Nullable(String) COMMENT 'The account; NULL is an anonymous receipt',
    store_id String COMMENT 'The store',
    register_id String COMMENT 'The till in the store',
    business_date Date32 COMMENT 'The day to which the store counts the receipt',
    issued_at DateTime64(3, 'UTC') COMMENT 'When it was issued, UTC',
    issued_local DateTime64(3, 'UTC') COMMENT 'Wall clock time at the till',
    currency String COMMENT 'ISO 4217 code of all amounts',
    line_no Int64 COMMENT 'The line in its receipt',
    original_line_no Nullable(Int64) COMMENT 'Of a return or void: the line of the sale',
    sku Nullable(String) COMMENT 'What was sold; of a return or void, from the line of the sale',
    category Nullable(String) COMMENT 'Category path, levels separated by /',
    category_1 Nullable(String) COMMENT 'First level of category',
    category_2 Nullable(String) COMMENT 'Second level of category',
    category_3 Nullable(String) COMMENT 'Third level of category',
    brand Nullable(String) COMMENT 'Brand',
    line_kind Nullable(String) COMMENT 'item, deposit, gift_card, service or fee',
    quantity_milli Int64 COMMENT 'Thousandths of a piece or kilogram, never negative',
    amount Int64 COMMENT 'After discount, minor units of currency (1599 is 15.99), never negative',
    discount Int64 COMMENT 'Minor units of currency; 0 in returns and voids',
    net_quantity_milli Int64 COMMENT 'quantity_milli with a sign: sales up, returns and voids down',
    net_amount Int64 COMMENT 'amount with a sign: sales up, returns and voids down',
    net_money Decimal(38, 3) COMMENT 'net_amount in units of currency, exact'
)
AS
WITH splitByChar('/', ifNull(category, '')) AS levels
SELECT
    lower(hex(posting_id)) AS posting_id, kind, source, receipt_id, lower(hex(sale_id)) AS sale_id, account_id,
    store_id, register_id, business_date, issued_at, issued_at + toIntervalMinute(utc_offset_minutes) AS issued_local, currency,
    line_no, original_line_no, sku, category,
    nullIf(levels[1], '') AS category_1, nullIf(levels[2], '') AS category_2, nullIf(levels[3], '') AS category_3,
    brand, line_kind, quantity_milli, amount, discount,
    sign * quantity_milli AS net_quantity_milli, sign * amount AS net_amount,
    toDecimal128(sign * amount, 3) / minor_units AS net_money
FROM receipt_documents
ARRAY JOIN line_no, original_line_no, sku, category, brand, line_kind, quantity_milli, amount, discount
COMMENT 'Lines of accepted sales, returns and voids, each once';

CREATE VIEW IF NOT EXISTS ledger_entries
(
    entry_id String COMMENT 'posting_id and the number of the entry in its posting',
    account_id Nullable(String) COMMENT 'The account',
    unit String COMMENT 'What is counted: points, stamps, ...',
    kind String COMMENT 'accrual, reversal, redemption, expiry, ...',
    points Int64 COMMENT 'Signed movement; the sum over an account and unit is its balance',
    source String COMMENT 'source of the event',
    event_id String COMMENT 'id of the event',
    receipt_id Nullable(String) COMMENT 'The receipt; NULL for expiry at a tick',
    line_no Nullable(Int64) COMMENT 'Line of the sale, also in returns and voids; NULL for expiry',
    rule_id Nullable(String) COMMENT 'The rule that gave the points; NULL for redemptions and expiry',
    program_version Nullable(String) COMMENT 'Hash of the program that judged the event',
    occurred_at DateTime64(3, 'UTC') COMMENT 'When it happened, UTC',
    expires_on Nullable(Date32) COMMENT 'Last day on which the points can be used; NULL is never, or points of no single day',
    reverses Nullable(String) COMMENT 'entry_id that this entry undoes',
    day Date32 COMMENT 'Local date in the time zone of the program',
    posting_id String COMMENT 'Natural key of the event, 32 hexadecimal digits; receipts.posting_id',
    posting_kind String COMMENT 'sale, return, void or tick',
    sale_id Nullable(String) COMMENT 'Natural key of the sale: its own, or the one that is undone; NULL for ticks',
    basis Nullable(Int64) COMMENT 'Minor units that the rule looked at; the same on all entries of a rule and receipt',
    award Nullable(Int64) COMMENT 'Points of the rule for the whole receipt, before its cap; the same on all its entries',
    uncovered Bool COMMENT 'A redemption beyond the balance',
    spent_on Nullable(Date32) COMMENT 'Day of a redemption, also on reversals that give it back'
)
AS
SELECT
    concat(lower(hex(p.posting_id)), '-', toString(number - 1)) AS entry_id, account_id, e_unit AS unit, e_kind AS kind,
    e_points AS points, source, event_id, receipt_id, e_line_no AS line_no, e_rule_id AS rule_id, program_version, occurred_at,
    e_expires_on AS expires_on, concat(lower(hex(p.sale_id)), '-', toString(e_reverses)) AS reverses, day,
    lower(hex(p.posting_id)) AS posting_id, posting_kind,
    if(posting_kind = 'tick', NULL, lower(hex(p.sale_id))) AS sale_id, e_basis AS basis, e_award AS award,
    e_uncovered AS uncovered, e_spent_on AS spent_on
FROM (SELECT *, kind AS posting_kind FROM postings_log FINAL) AS p
ARRAY JOIN
    arrayEnumerate(entries.points) AS number, entries.unit AS e_unit, entries.kind AS e_kind, entries.points AS e_points,
    entries.line_no AS e_line_no, entries.rule_id AS e_rule_id, entries.expires_on AS e_expires_on,
    entries.reverses AS e_reverses, entries.basis AS e_basis, entries.award AS e_award, entries.uncovered AS e_uncovered,
    entries.spent_on AS e_spent_on
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Every movement of points, each once';

CREATE VIEW IF NOT EXISTS ledger_lines
(
    entry_id String COMMENT 'ledger_entries.entry_id',
    account_id Nullable(String) COMMENT 'The account',
    unit String COMMENT 'What is counted: points, stamps, ...',
    kind String COMMENT 'accrual, reversal, redemption, expiry, ...',
    points Int64 COMMENT 'Signed movement',
    rule_id Nullable(String) COMMENT 'The rule that gave the points; NULL for redemptions and expiry',
    program_version Nullable(String) COMMENT 'Hash of the program that judged the event',
    day Date32 COMMENT 'Local date of the event in the time zone of the program',
    occurred_at DateTime64(3, 'UTC') COMMENT 'When it happened, UTC',
    posting_kind String COMMENT 'sale, return, void or tick',
    sale_id Nullable(String) COMMENT 'Natural key of the sale; NULL for ticks',
    line_no Nullable(Int64) COMMENT 'Line of the sale; the columns below are NULL where there is none',
    store_id Nullable(String) COMMENT 'Store of the sale',
    sale_date Nullable(Date32) COMMENT 'Business date of the sale',
    currency Nullable(String) COMMENT 'ISO 4217 code of line_amount',
    sku Nullable(String) COMMENT 'What was sold',
    category Nullable(String) COMMENT 'Category path, levels separated by /',
    category_1 Nullable(String) COMMENT 'First level of category',
    category_2 Nullable(String) COMMENT 'Second level of category',
    category_3 Nullable(String) COMMENT 'Third level of category',
    brand Nullable(String) COMMENT 'Brand',
    line_kind Nullable(String) COMMENT 'item, deposit, gift_card, service or fee',
    line_amount Nullable(Int64) COMMENT 'What the line of the sale cost, minor units; repeated on every entry of the line, so never sum it here'
)
AS
WITH splitByChar('/', ifNull(category, '')) AS levels
SELECT
    concat(lower(hex(p.posting_id)), '-', toString(number - 1)) AS entry_id, account_id, e_unit AS unit, e_kind AS kind,
    e_points AS points, e_rule_id AS rule_id, program_version, day, occurred_at, posting_kind,
    if(posting_kind = 'tick', NULL, lower(hex(p.sale_id))) AS sale_id, e_line_no AS line_no, store_id, sale_date, currency,
    skus[place] AS sku, categories[place] AS category, nullIf(levels[1], '') AS category_1, nullIf(levels[2], '') AS category_2,
    nullIf(levels[3], '') AS category_3, brands[place] AS brand, line_kinds[place] AS line_kind,
    amounts[place] AS line_amount
FROM
(
    SELECT
        l.*, s.line_numbers AS line_numbers, s.store_id AS store_id, s.sale_date AS sale_date, s.currency AS currency,
        s.skus AS skus, s.categories AS categories, s.brands AS brands, s.line_kinds AS line_kinds, s.amounts AS amounts
    FROM (SELECT *, kind AS posting_kind FROM postings_log FINAL) AS l
    LEFT JOIN
    (
        SELECT
            posting_id, toNullable(store_id) AS store_id, toNullable(business_date) AS sale_date, toNullable(currency) AS currency,
            lines.line_no AS line_numbers, lines.sku AS skus, lines.category AS categories, lines.brand AS brands,
            lines.kind AS line_kinds, arrayMap(amount -> toNullable(amount), lines.amount) AS amounts
        FROM accepted_receipts
        WHERE kind = 'sale'
    ) AS s ON l.sale_id = s.posting_id
) AS p
ARRAY JOIN
    arrayEnumerate(entries.points) AS number, entries.unit AS e_unit, entries.kind AS e_kind, entries.points AS e_points,
    entries.line_no AS e_line_no, entries.rule_id AS e_rule_id,
    arrayMap(line -> indexOf(line_numbers, line), entries.line_no) AS place
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Every movement of points, each once, with the line of the sale that it belongs to';
