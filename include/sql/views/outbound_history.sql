CREATE OR REPLACE VIEW outbound_history AS
SELECT
    log.at, log.target, coalesce(nullif(log.code, ''), log.source_id::text) AS code, log.position_id, log.mapping_id,
    log.outcome, log.reason, log.messages, log.attempt, log.next_try_at, log.triggered_by, log.payload, log.link,
    run.run_id, log.source, log.source_id, log.id
FROM outbound_log AS log
LEFT JOIN outbound_run AS run ON run.id = log.run_id;
