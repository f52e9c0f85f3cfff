-- What of an offer's goods came back is an outcome of its own kind, `returned`; the tables are as they were, and say so.
--
-- Each statement can be repeated, like those of 0001_tables.sql.

ALTER TABLE offer_outcomes_log COMMENT COLUMN kind 'shown, clicked, redeemed, bought or returned';

ALTER TABLE offer_outcomes_log COMMENT COLUMN receipt_id 'Where goods were bought; also of returned, the sale';

ALTER TABLE offer_outcomes_log COMMENT COLUMN amount 'What they cost, or what of them came back, minor units';

CREATE OR REPLACE VIEW offer_outcomes
(
    decision_id String COMMENT 'offer_decisions.decision_id',
    kind String COMMENT 'shown, clicked, redeemed, bought or returned',
    occurred_at DateTime64(3, 'UTC') COMMENT 'When it happened, UTC',
    receipt_id Nullable(String) COMMENT 'Where goods were bought; also of returned, the sale',
    amount Nullable(Int64) COMMENT 'What they cost, or what of them came back, minor units',
    source String COMMENT 'Who said it',
    event_id String COMMENT 'id of the event'
)
AS
SELECT decision_id, kind, occurred_at, receipt_id, amount, source, event_id
FROM offer_outcomes_log FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'What became of offers, each once';
