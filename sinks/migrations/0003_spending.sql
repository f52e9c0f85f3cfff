-- What holds, pending points and terms of spending add to the entries; rows from before read as NULL and false.
--
-- Each statement can be repeated, like those of 0001_tables.sql.

ALTER TABLE postings_log ADD COLUMN IF NOT EXISTS
    `entries.beyond_terms` Array(Bool) COMMENT 'A tender that the program''s terms of spending do not allow' AFTER `entries.award`;

ALTER TABLE postings_log ADD COLUMN IF NOT EXISTS
    `entries.hold_id` Array(Nullable(String)) COMMENT 'The hold that is made, ended or taken' AFTER `entries.beyond_terms`;

ALTER TABLE postings_log ADD COLUMN IF NOT EXISTS
    `entries.until` Array(Nullable(Date32)) COMMENT 'Last day on which the points are held or pending' AFTER `entries.hold_id`;

CREATE OR REPLACE VIEW ledger_entries
(
    entry_id String COMMENT 'posting_id and the number of the entry in its posting',
    account_id Nullable(String) COMMENT 'The account',
    unit String COMMENT 'What is counted: points, stamps, ...',
    kind String COMMENT 'accrual, reversal, hold, capture, release, redemption, expiry, adjustment or transfer',
    points Int64 COMMENT 'Signed movement; the sum over an account and unit is its balance',
    source String COMMENT 'source of the event',
    event_id String COMMENT 'id of the event',
    receipt_id Nullable(String) COMMENT 'The receipt; NULL for ticks and for points used without one',
    line_no Nullable(Int64) COMMENT 'Line of the sale, also in returns and voids; NULL where the entry is of no line',
    rule_id Nullable(String) COMMENT 'The rule that gave the points; NULL where none did',
    program_version Nullable(String) COMMENT 'Hash of the program that judged the event',
    occurred_at DateTime64(3, 'UTC') COMMENT 'When it happened, UTC',
    expires_on Nullable(Date32) COMMENT 'Last day on which the points can be used; NULL is never, or points of no single day',
    reverses Nullable(String) COMMENT 'entry_id that this entry undoes',
    day Date32 COMMENT 'Local date in the time zone of the program',
    posting_id String COMMENT 'Natural key of the event, 32 hexadecimal digits; receipts.posting_id',
    posting_kind String COMMENT 'sale, return, void, tick, hold, release, redemption, adjustment or transfer',
    sale_id Nullable(String) COMMENT 'Natural key of the sale: its own, or the one that is undone; NULL where there is none',
    basis Nullable(Int64) COMMENT 'Minor units that the rule looked at; the same on all entries of a rule and receipt',
    award Nullable(Int64) COMMENT 'Points of the rule for the whole receipt, before its cap; the same on all its entries',
    uncovered Bool COMMENT 'A redemption beyond the balance',
    spent_on Nullable(Date32) COMMENT 'Day of a redemption or hold, also on entries that give it back',
    beyond_terms Bool COMMENT 'A tender that the terms of spending do not allow',
    hold_id Nullable(String) COMMENT 'The hold that is made, ended or taken',
    until Nullable(Date32) COMMENT 'Last day on which the points are held or pending'
)
AS
SELECT
    concat(lower(hex(p.posting_id)), '-', toString(number - 1)) AS entry_id, account_id, e_unit AS unit, e_kind AS kind,
    e_points AS points, source, event_id, receipt_id, e_line_no AS line_no, e_rule_id AS rule_id, program_version, occurred_at,
    e_expires_on AS expires_on, concat(lower(hex(p.sale_id)), '-', toString(e_reverses)) AS reverses, day,
    lower(hex(p.posting_id)) AS posting_id, posting_kind,
    if(posting_kind IN ('sale', 'return', 'void'), lower(hex(p.sale_id)), NULL) AS sale_id, e_basis AS basis, e_award AS award,
    e_uncovered AS uncovered, e_spent_on AS spent_on,
    e_beyond_terms AS beyond_terms, e_hold_id AS hold_id, e_until AS until
FROM (SELECT *, kind AS posting_kind FROM postings_log FINAL) AS p
ARRAY JOIN
    arrayEnumerate(entries.points) AS number, entries.unit AS e_unit, entries.kind AS e_kind, entries.points AS e_points,
    entries.line_no AS e_line_no, entries.rule_id AS e_rule_id, entries.expires_on AS e_expires_on,
    entries.reverses AS e_reverses, entries.basis AS e_basis, entries.award AS e_award, entries.uncovered AS e_uncovered,
    entries.spent_on AS e_spent_on,
    entries.beyond_terms AS e_beyond_terms,
    entries.hold_id AS e_hold_id,
    entries.until AS e_until
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Every movement of points, each once';

CREATE OR REPLACE VIEW ledger_lines
(
    entry_id String COMMENT 'ledger_entries.entry_id',
    account_id Nullable(String) COMMENT 'The account',
    unit String COMMENT 'What is counted: points, stamps, ...',
    kind String COMMENT 'accrual, reversal, hold, capture, release, redemption, expiry, adjustment or transfer',
    points Int64 COMMENT 'Signed movement',
    rule_id Nullable(String) COMMENT 'The rule that gave the points; NULL where none did',
    program_version Nullable(String) COMMENT 'Hash of the program that judged the event',
    day Date32 COMMENT 'Local date of the event in the time zone of the program',
    occurred_at DateTime64(3, 'UTC') COMMENT 'When it happened, UTC',
    posting_kind String COMMENT 'sale, return, void, tick, hold, release, redemption, adjustment or transfer',
    sale_id Nullable(String) COMMENT 'Natural key of the sale; NULL where there is none',
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
    if(posting_kind IN ('sale', 'return', 'void'), lower(hex(p.sale_id)), NULL) AS sale_id, e_line_no AS line_no, store_id, sale_date, currency,
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
