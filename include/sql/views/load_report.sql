CREATE OR REPLACE VIEW load_report AS
SELECT
    provider.name AS provider,
    coalesce(venue.name, 'all') AS venue,
    instance.state,
    (report ->> 'records')::bigint AS records,
    (report ->> 'checked')::bigint AS checked,
    (report ->> 'created')::bigint AS created,
    (report ->> 'updated')::bigint AS updated,
    (report ->> 'unchanged')::bigint AS unchanged,
    (report ->> 'skipped')::bigint AS skipped,
    (report ->> 'rejected')::bigint AS rejected,
    (report ->> 'fetch_seconds')::double precision AS fetch_seconds,
    (report ->> 'iterate_seconds')::double precision AS iterate_seconds,
    (report ->> 'diff_seconds')::double precision AS diff_seconds,
    (report ->> 'upsert_seconds')::double precision AS upsert_seconds,
    (report ->> 'seconds')::double precision AS seconds,
    (report ->> 'records')::bigint / nullif((report ->> 'seconds')::double precision, 0) AS records_per_second,
    instance.attempts,
    instance.since,
    instance.error,
    instance.started_at,
    instance.finished_at,
    instance.id AS instance_id,
    coalesce(catalog.parent_id, catalog.id) AS catalog_id,
    root.run_id,
    (root.parameters ->> 'dry_run')::boolean IS TRUE AS dry_run,
    venue_provider.id AS venue_provider_id,
    catalog_scheme.version AS scheme_version,
    (report ->> 'gone')::bigint AS gone,
    (report ->> 'held_back')::bigint AS held_back
FROM catalog_scheme_operation_instance AS instance
JOIN catalog ON catalog.id = instance.catalog_id
JOIN catalog AS root ON root.id = coalesce(catalog.parent_id, catalog.id)
JOIN catalog_scheme ON catalog_scheme.id = catalog.catalog_scheme_id
JOIN provider ON provider.id = catalog_scheme.provider_id
LEFT JOIN venue_provider ON venue_provider.id = catalog.venue_provider_id
LEFT JOIN venue ON venue.id = venue_provider.venue_id
CROSS JOIN LATERAL (SELECT instance.progress AS report) AS counts;
