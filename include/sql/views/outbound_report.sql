CREATE OR REPLACE VIEW outbound_report AS
SELECT
    target,
    run_id,
    count(*) AS claimers,
    sum((counts #>> '{orders,sent}')::bigint) AS orders_sent,
    sum((counts #>> '{orders,nothing_to_do}')::bigint) AS orders_unchanged,
    sum((counts #>> '{orders,retry}')::bigint) AS orders_to_retry,
    sum((counts #>> '{orders,parked}')::bigint) AS orders_parked,
    sum((counts #>> '{objects,sent}')::bigint) AS objects_sent,
    sum((counts #>> '{objects,nothing_to_do}')::bigint) AS objects_unchanged,
    sum((counts #>> '{objects,not_synced}')::bigint) AS objects_not_synced,
    sum((counts #>> '{objects,failed}')::bigint) AS objects_failed,
    max((counts ->> 'seconds')::double precision) AS seconds,
    max(counts ->> 'down') AS down,
    min(started_at) AS started_at,
    max(finished_at) AS finished_at
FROM outbound_run
GROUP BY target, run_id;
