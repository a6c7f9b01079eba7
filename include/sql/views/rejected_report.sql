CREATE OR REPLACE VIEW rejected_report AS
SELECT
    rejected_record.id, provider.name AS provider, coalesce(venue.name, 'all') AS venue, rejected_record.model,
    rejected_record.id_at_providers AS reference, rejected_record.reason, rejected_record.payload,
    rejected_record.created_at, rejected_record.resolution, rejected_record.resolved_at, root.run_id,
    rejected_record.venue_provider_id, rejected_record.instance_id
FROM rejected_record
JOIN provider ON provider.id = rejected_record.provider_id
LEFT JOIN venue_provider ON venue_provider.id = rejected_record.venue_provider_id
LEFT JOIN venue ON venue.id = venue_provider.venue_id
LEFT JOIN catalog_scheme_operation_instance AS instance ON instance.id = rejected_record.instance_id
LEFT JOIN catalog ON catalog.id = instance.catalog_id
LEFT JOIN catalog AS root ON root.id = coalesce(catalog.parent_id, catalog.id);
