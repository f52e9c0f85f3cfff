-- What history writes. Every table collapses repeated inserts (ReplacingMergeTree, the first Kafka offset wins), and its
-- deduplication window drops a repeated block at once. A receipt or a posting is one row with its lines or entries in
-- arrays: it is there whole or not at all, and FINAL has a tenth of the rows to merge. Analysts read the views of
-- 0002_views.sql, not these tables.
--
-- Each statement can be repeated (IF NOT EXISTS): two processes may run this file at the same time.

CREATE TABLE IF NOT EXISTS receipts_log
(
    occurred_on Date32 COMMENT 'UTC date of issued_at; the partition and the first sorting column',
    posting_id FixedString(16) COMMENT 'Natural key of the receipt: SHA-256 of (source, receipt_id), first half',
    digest FixedString(16) COMMENT 'Hash of what the receipt says; a conflict has the same posting_id and another digest',
    kind LowCardinality(String) COMMENT 'sale or return',
    sale_id FixedString(16) COMMENT 'Natural key of the sale: its own, or the one that is returned',
    source LowCardinality(String) COMMENT 'Who issued the receipt',
    receipt_id String COMMENT 'The receipt, unique within its source',
    store_id LowCardinality(String) COMMENT 'The store',
    register_id LowCardinality(String) COMMENT 'The till in the store',
    business_date Date32 COMMENT 'The day to which the store counts the receipt',
    issued_at DateTime64(3, 'UTC') COMMENT 'When the receipt was issued',
    utc_offset_minutes Int16 COMMENT 'Local time minus UTC as the till wrote it, minutes',
    currency LowCardinality(String) COMMENT 'ISO 4217 code of all amounts',
    original_source LowCardinality(Nullable(String)) COMMENT 'Of a return: who issued the sale',
    original_receipt_id Nullable(String) COMMENT 'Of a return: the receipt of the sale',
    `lines.line_no` Array(Int64) COMMENT 'Line numbers',
    `lines.original_line_no` Array(Nullable(Int64)) COMMENT 'Of a return: the line of the sale',
    `lines.sku` Array(Nullable(String)) COMMENT 'What was sold; NULL in returns, which name the line of the sale',
    `lines.category` Array(LowCardinality(Nullable(String))) COMMENT 'Category path, levels separated by /',
    `lines.brand` Array(LowCardinality(Nullable(String))) COMMENT 'Brand',
    `lines.kind` Array(LowCardinality(Nullable(String))) COMMENT 'item, deposit, gift_card, service or fee; NULL in returns',
    `lines.quantity_milli` Array(Int64) COMMENT 'Thousandths of a piece or kilogram',
    `lines.amount` Array(Int64) COMMENT 'Minor units of currency, after discount; never negative',
    `lines.discount` Array(Int64) COMMENT 'Minor units of currency; 0 in returns',
    `tenders.type` Array(LowCardinality(String)) COMMENT 'Means of payment',
    `tenders.amount` Array(Int64) COMMENT 'Minor units of currency paid by it',
    kafka_partition UInt32 COMMENT 'Partition of the topic transactions',
    kafka_offset UInt64 COMMENT 'Offset in the topic transactions',
    first_wins UInt64 DEFAULT bitNot(kafka_offset) COMMENT 'Version: the highest stays, which is the first offset'
)
ENGINE = ReplacingMergeTree(first_wins)
PARTITION BY toYYYYMM(occurred_on)
ORDER BY (occurred_on, posting_id, digest)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every sale and return on the topic transactions, accepted or not; read the view receipts instead';

CREATE TABLE IF NOT EXISTS postings_log
(
    occurred_on Date32 COMMENT 'UTC date of occurred_at; the partition and the first sorting column',
    posting_id FixedString(16) COMMENT 'Natural key of the source event',
    digest FixedString(16) COMMENT 'Hash of what the source event says; zero bytes for ticks',
    kind LowCardinality(String) COMMENT 'sale, return, void or tick',
    sale_id FixedString(16) COMMENT 'Natural key of the sale: its own, or the one that is undone; zero bytes for ticks',
    account_id Nullable(String) COMMENT 'The account; NULL is an anonymous receipt',
    source LowCardinality(String) COMMENT 'source of the event',
    event_id String COMMENT 'id of the event',
    receipt_id Nullable(String) COMMENT 'The receipt; NULL for ticks',
    occurred_at DateTime64(3, 'UTC') COMMENT 'When it happened',
    utc_offset_minutes Int16 COMMENT 'Local time minus UTC as the event wrote it, minutes',
    day Date32 COMMENT 'Local date in the time zone of the program',
    program_version LowCardinality(Nullable(String)) COMMENT 'Hash of the program that judged the event',
    `undone.line_no` Array(Int64) COMMENT 'Of a void: the lines of the sale',
    `undone.quantity_milli` Array(Int64) COMMENT 'Of a void: thousandths that came back',
    `undone.amount` Array(Int64) COMMENT 'Of a void: minor units that came back',
    `entries.unit` Array(LowCardinality(String)) COMMENT 'What is counted: points, stamps, ...',
    `entries.kind` Array(LowCardinality(String)) COMMENT 'accrual, reversal, redemption, expiry, ...',
    `entries.points` Array(Int64) COMMENT 'Signed movement',
    `entries.line_no` Array(Nullable(Int64)) COMMENT 'Line of the sale',
    `entries.rule_id` Array(LowCardinality(Nullable(String))) COMMENT 'The rule',
    `entries.expires_on` Array(Nullable(Date32)) COMMENT 'Last day on which the points can be used; NULL is never',
    `entries.spent_on` Array(Nullable(Date32)) COMMENT 'Day of a redemption, also on reversals that give it back',
    `entries.reverses` Array(Nullable(Int64)) COMMENT 'Number of the entry in the posting of the sale that this one undoes',
    `entries.uncovered` Array(Bool) COMMENT 'A redemption beyond the balance',
    `entries.basis` Array(Nullable(Int64)) COMMENT 'Minor units that the rule looked at',
    `entries.award` Array(Nullable(Int64)) COMMENT 'Points of the rule for the whole receipt, before its cap',
    kafka_partition UInt32 COMMENT 'Partition of the topic ledger',
    kafka_offset UInt64 COMMENT 'Offset in the topic ledger',
    first_wins UInt64 DEFAULT bitNot(kafka_offset) COMMENT 'Version: the highest stays, which is the first offset'
)
ENGINE = ReplacingMergeTree(first_wins)
PARTITION BY toYYYYMM(occurred_on)
ORDER BY (occurred_on, posting_id)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every ledger.posted on the topic ledger; read the views ledger_entries and ledger_lines instead';

-- Looked up by sale only. Small granules: a lookup reads whole ones, and a record is a kilobyte.
CREATE TABLE IF NOT EXISTS records
(
    sale_id FixedString(16) COMMENT 'Natural key of the sale',
    posting_id FixedString(16) COMMENT 'Natural key of the event: the sale, or what undoes it',
    type LowCardinality(String) COMMENT 'ledger.posted, ledger.waiting or ledger.refused',
    record String COMMENT 'The bytes of the ledger record' CODEC(ZSTD(1)),
    kafka_partition UInt32 COMMENT 'Partition of the topic ledger',
    kafka_offset UInt64 COMMENT 'Offset in the topic ledger',
    first_wins UInt64 DEFAULT bitNot(kafka_offset) COMMENT 'Version: the highest stays, which is the first offset'
)
ENGINE = ReplacingMergeTree(first_wins)
ORDER BY (sale_id, posting_id, type)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 128
COMMENT 'The archive from which old sales are recalled with their returns and voids; ticks are not in it';

CREATE TABLE IF NOT EXISTS history_rejects
(
    topic LowCardinality(String) COMMENT 'transactions or ledger',
    kafka_partition UInt32 COMMENT 'Its partition',
    kafka_offset UInt64 COMMENT 'The offset',
    value String COMMENT 'The bytes of the record',
    error String COMMENT 'Why it could not be decoded'
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, kafka_partition, kafka_offset, sipHash64(value))
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Records that history could not decode; nothing is lost, nothing stops. Read with FINAL';
