-- What visitors do on pages, which offers were decided on, and what became of them. As in 0001_tables.sql: tables collapse repeats, the
-- first Kafka offset wins; analysts read the views, which are exact.
--
-- Each statement can be repeated, like those of 0001_tables.sql.

CREATE TABLE IF NOT EXISTS page_views_log
(
    occurred_on Date32 COMMENT 'UTC date of occurred_at; the partition and the first sorting column',
    view_key FixedString(16) COMMENT 'SHA-256 of (source, id), first half',
    name LowCardinality(String) COMMENT 'page_view, view_item, search, add_to_cart, ...: names of GA4',
    source LowCardinality(String) COMMENT 'The shop, web/shop.example.org',
    event_id String COMMENT 'id of the event',
    occurred_at DateTime64(3, 'UTC') COMMENT 'When it happened',
    visitor_id String COMMENT 'One browser',
    session_id String COMMENT 'One visit',
    member_scheme LowCardinality(Nullable(String)) COMMENT 'By what the page claimed to know the member: card, phone, member, ...',
    member Nullable(String) COMMENT 'Keyed hash of what the page claimed; a member id as it is. A claim, no proof',
    page_location String COMMENT 'Address of the page',
    page_title Nullable(String) COMMENT 'Its title',
    page_referrer Nullable(String) COMMENT 'Where the visitor came from',
    search_term Nullable(String) COMMENT 'Of a search',
    value Nullable(Float64) COMMENT 'What the goods cost together, units of currency',
    currency LowCardinality(Nullable(String)) COMMENT 'ISO 4217 code',
    transaction_id Nullable(String) COMMENT 'Of a purchase; may be the receipt_id of its receipt',
    `items.item_id` Array(String) COMMENT 'Goods',
    `items.item_category` Array(LowCardinality(Nullable(String))) COMMENT 'Category path, levels separated by /',
    `items.price` Array(Nullable(Float64)) COMMENT 'Units of currency',
    `items.quantity` Array(Nullable(Float64)) COMMENT 'Pieces',
    kafka_partition UInt32 COMMENT 'Partition of the topic clickstream',
    kafka_offset UInt64 COMMENT 'Offset in the topic clickstream',
    first_wins UInt64 DEFAULT bitNot(kafka_offset) COMMENT 'Version: the highest stays, which is the first offset'
)
ENGINE = ReplacingMergeTree(first_wins)
PARTITION BY toYYYYMM(occurred_on)
ORDER BY (occurred_on, view_key)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Everything on the topic clickstream, also what was sent twice; read the view page_views instead';

CREATE TABLE IF NOT EXISTS offer_decisions_log
(
    occurred_on Date32 COMMENT 'UTC date of decided_at; the partition and the first sorting column',
    decision_id String COMMENT 'One for ever',
    offer_id LowCardinality(String) COMMENT 'The offer',
    program_id LowCardinality(String) COMMENT 'The program that has it',
    program_version LowCardinality(String) COMMENT 'Hash of the program',
    member_id String COMMENT 'Whom it was decided for',
    account_id String COMMENT 'Their account',
    channel LowCardinality(String) COMMENT 'By which way it is proposed',
    decision_group LowCardinality(String) COMMENT 'treated, or control: decided, and not proposed',
    cause_source LowCardinality(String) COMMENT 'source of the event that led to it',
    cause_event_id String COMMENT 'id of that event',
    cause_type LowCardinality(String) COMMENT 'type of that event',
    why String COMMENT 'The condition that it met, in words',
    decided_at DateTime64(3, 'UTC') COMMENT 'When',
    answer_by DateTime64(3, 'UTC') COMMENT 'Without an outcome by then it came to nothing',
    consents Map(String, Bool) COMMENT 'Purposes that were looked up, and whether they are agreed to',
    model LowCardinality(Nullable(String)) COMMENT 'Model that was asked; NULL where none was',
    model_version Nullable(String) COMMENT 'Its version',
    score Nullable(Float64) COMMENT 'Propensity, 0 to 1',
    exploration Nullable(Float64) COMMENT 'Probability with which a policy chose the offer',
    features Map(String, Float64) COMMENT 'What the model saw, as it stood then',
    kafka_partition UInt32 COMMENT 'Partition of the topic outcomes',
    kafka_offset UInt64 COMMENT 'Offset in the topic outcomes',
    first_wins UInt64 DEFAULT bitNot(kafka_offset) COMMENT 'Version: the highest stays, which is the first offset'
)
ENGINE = ReplacingMergeTree(first_wins)
PARTITION BY toYYYYMM(occurred_on)
ORDER BY (occurred_on, decision_id)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every decision on the topic outcomes; read the view offer_decisions instead';

CREATE TABLE IF NOT EXISTS offer_outcomes_log
(
    occurred_on Date32 COMMENT 'UTC date of occurred_at; the partition and the first sorting column',
    outcome_key FixedString(16) COMMENT 'SHA-256 of (source, id), first half',
    decision_id String COMMENT 'The decision',
    kind LowCardinality(String) COMMENT 'shown, clicked, redeemed or bought',
    source LowCardinality(String) COMMENT 'Who said it',
    event_id String COMMENT 'id of the event',
    occurred_at DateTime64(3, 'UTC') COMMENT 'When it happened',
    receipt_id Nullable(String) COMMENT 'Where goods were bought',
    amount Nullable(Int64) COMMENT 'What they cost, minor units',
    kafka_partition UInt32 COMMENT 'Partition of the topic outcomes',
    kafka_offset UInt64 COMMENT 'Offset in the topic outcomes',
    first_wins UInt64 DEFAULT bitNot(kafka_offset) COMMENT 'Version: the highest stays, which is the first offset'
)
ENGINE = ReplacingMergeTree(first_wins)
PARTITION BY toYYYYMM(occurred_on)
ORDER BY (occurred_on, outcome_key)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every outcome on the topic outcomes; read the view offer_outcomes instead';

CREATE TABLE IF NOT EXISTS offer_triggers_log
(
    occurred_on Date32 COMMENT 'UTC date of triggered_at; the partition and the first sorting column',
    decision_id String COMMENT 'The decision',
    title String COMMENT 'As the member saw it',
    unit LowCardinality(String) COMMENT 'Unit of points',
    points Int64 COMMENT 'What it gives: points',
    amount_off Int64 COMMENT 'What it gives: minor units off',
    currency LowCardinality(Nullable(String)) COMMENT 'ISO 4217 code of amount_off',
    basis_points_off Int32 COMMENT 'What it gives: hundredths of a per cent off',
    triggered_at DateTime64(3, 'UTC') COMMENT 'When',
    expires_at DateTime64(3, 'UTC') COMMENT 'Until when it holds',
    visitor_id Nullable(String) COMMENT 'Where a page led to it: the browser',
    session_id Nullable(String) COMMENT 'Where a page led to it: the visit',
    sku Array(String) COMMENT 'Its goods, globs',
    category Array(String) COMMENT 'Its goods, globs',
    kafka_partition UInt32 COMMENT 'Partition of the topic triggers',
    kafka_offset UInt64 COMMENT 'Offset in the topic triggers',
    first_wins UInt64 DEFAULT bitNot(kafka_offset) COMMENT 'Version: the highest stays, which is the first offset'
)
ENGINE = ReplacingMergeTree(first_wins)
PARTITION BY toYYYYMM(occurred_on)
ORDER BY (occurred_on, decision_id)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Everything on the topic triggers; the view offer_decisions has it';

CREATE VIEW IF NOT EXISTS page_views
(
    name String COMMENT 'page_view, view_item, search, add_to_cart, ...: names of GA4',
    occurred_at DateTime64(3, 'UTC') COMMENT 'When it happened, UTC',
    visitor_id String COMMENT 'One browser',
    session_id String COMMENT 'One visit',
    member_scheme Nullable(String) COMMENT 'By what the page claimed to know the member: card, phone, member, ...',
    member Nullable(String) COMMENT 'Keyed hash of what the page claimed; a member id as it is. A claim, no proof',
    page_location String COMMENT 'Address of the page',
    page_title Nullable(String) COMMENT 'Its title',
    page_referrer Nullable(String) COMMENT 'Where the visitor came from',
    search_term Nullable(String) COMMENT 'Of a search',
    value Nullable(Float64) COMMENT 'What the goods cost together, units of currency',
    currency Nullable(String) COMMENT 'ISO 4217 code of value and prices',
    transaction_id Nullable(String) COMMENT 'Of a purchase; may be the receipt_id of its receipt',
    skus Array(String) COMMENT 'Goods on the page',
    categories Array(Nullable(String)) COMMENT 'Their category paths, in the same order',
    prices Array(Nullable(Float64)) COMMENT 'Their prices, units of currency',
    quantities Array(Nullable(Float64)) COMMENT 'How many of each, pieces',
    source String COMMENT 'The shop, web/shop.example.org',
    event_id String COMMENT 'id of the event'
)
AS
SELECT
    name, occurred_at, visitor_id, session_id, member_scheme, member, page_location, page_title, page_referrer, search_term, value, currency,
    transaction_id, items.item_id AS skus, items.item_category AS categories, items.price AS prices, items.quantity AS quantities, source,
    event_id
FROM page_views_log FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'What visitors did on pages, each once';

CREATE VIEW IF NOT EXISTS offer_decisions
(
    decision_id String COMMENT 'One for ever',
    offer_id String COMMENT 'The offer',
    program_id String COMMENT 'The program that has it',
    program_version String COMMENT 'Hash of the program',
    member_id String COMMENT 'Whom it was decided for',
    account_id String COMMENT 'Their account',
    channel String COMMENT 'By which way it is proposed',
    decision_group String COMMENT 'treated, or control: decided, and not proposed',
    cause_source String COMMENT 'source of the event that led to it',
    cause_event_id String COMMENT 'id of that event; page_views.event_id or receipts.event_id',
    cause_type String COMMENT 'type of that event',
    why String COMMENT 'The condition that it met, in words',
    decided_at DateTime64(3, 'UTC') COMMENT 'When, UTC',
    answer_by DateTime64(3, 'UTC') COMMENT 'Without an outcome by then it came to nothing',
    consents Map(String, Bool) COMMENT 'Purposes that were looked up, and whether they are agreed to',
    model Nullable(String) COMMENT 'Model that was asked; NULL where none was',
    model_version Nullable(String) COMMENT 'Its version',
    score Nullable(Float64) COMMENT 'Propensity, 0 to 1',
    exploration Nullable(Float64) COMMENT 'Probability with which a policy chose the offer',
    features Map(String, Float64) COMMENT 'What the model saw, as it stood then; docs/features.md',
    triggered Bool COMMENT 'Whether channels were told',
    title Nullable(String) COMMENT 'As the member saw it; like all below NULL where channels were not told',
    unit Nullable(String) COMMENT 'Unit of points',
    points Nullable(Int64) COMMENT 'What it gives: points',
    amount_off Nullable(Int64) COMMENT 'What it gives: minor units off',
    currency Nullable(String) COMMENT 'ISO 4217 code of amount_off',
    basis_points_off Nullable(Int32) COMMENT 'What it gives: hundredths of a per cent off',
    expires_at Nullable(DateTime64(3, 'UTC')) COMMENT 'Until when it holds',
    visitor_id Nullable(String) COMMENT 'Where a page led to it: page_views.visitor_id',
    session_id Nullable(String) COMMENT 'Where a page led to it: page_views.session_id'
)
AS
SELECT
    d.decision_id AS decision_id, offer_id, program_id, program_version, member_id, account_id, channel, decision_group, cause_source,
    cause_event_id, cause_type, why, decided_at, answer_by, consents, model, model_version, score, exploration, features,
    ifNull(t.was, false) AS triggered, t.title AS title, t.unit AS unit, t.points AS points, t.amount_off AS amount_off,
    t.currency AS currency, t.basis_points_off AS basis_points_off, t.expires_at AS expires_at, t.visitor_id AS visitor_id,
    t.session_id AS session_id
FROM (SELECT * FROM offer_decisions_log FINAL) AS d
LEFT JOIN
(
    SELECT
        decision_id, toNullable(true) AS was, toNullable(title) AS title, toNullable(toString(unit)) AS unit, toNullable(points) AS points,
        toNullable(amount_off) AS amount_off, currency, toNullable(basis_points_off) AS basis_points_off,
        toNullable(expires_at) AS expires_at, visitor_id, session_id
    FROM offer_triggers_log FINAL
) AS t ON d.decision_id = t.decision_id
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Decisions to propose an offer, each once, with what channels were told';

CREATE VIEW IF NOT EXISTS offer_outcomes
(
    decision_id String COMMENT 'offer_decisions.decision_id',
    kind String COMMENT 'shown, clicked, redeemed or bought',
    occurred_at DateTime64(3, 'UTC') COMMENT 'When it happened, UTC',
    receipt_id Nullable(String) COMMENT 'Where goods were bought',
    amount Nullable(Int64) COMMENT 'What they cost, minor units',
    source String COMMENT 'Who said it',
    event_id String COMMENT 'id of the event'
)
AS
SELECT decision_id, kind, occurred_at, receipt_id, amount, source, event_id
FROM offer_outcomes_log FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'What became of offers, each once';
