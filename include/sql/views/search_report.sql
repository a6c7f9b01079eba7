CREATE OR REPLACE VIEW search_report AS
SELECT
    search_pass.id,
    search_pass.index_name,
    search_pass.reason,
    search_pass.state,
    search_pass.dry_run,
    patch.name AS patch,
    (search_pass.report ->> 'read')::bigint AS records_read,
    (patch.counts ->> 'changed')::bigint AS changed,
    (patch.counts ->> 'left_alone')::bigint AS left_alone,
    (search_pass.report ->> 'refused_count')::bigint AS refused,
    patch.counts -> 'values' AS "values",
    patch.counts -> 'remarks' AS remarks,
    (search_pass.report ->> 'batches')::bigint AS batches,
    (search_pass.report ->> 'seconds')::double precision AS seconds,
    search_pass.restarts,
    (SELECT max((move ->> 'at')::timestamptz) FROM jsonb_array_elements(search_pass.moves) AS move) AS moved_at,
    search_pass.started_at,
    search_pass.finished_at,
    search_pass.error,
    search_pass.run_id,
    search_pass.application_id
FROM search_pass
LEFT JOIN LATERAL jsonb_each(search_pass.report -> 'patches') AS patch (name, counts) ON true;
