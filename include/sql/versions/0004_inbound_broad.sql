-- Settings of venue links, pictures, rows that a listing no longer has, edits by people, replay of rejected records.

-- product, offer and stock are locked against everybody until this commits. Behind one long reader it would wait for that
-- lock, and every booking would queue behind it: better to fail, change nothing, and be run again.
SET LOCAL lock_timeout = '10s';

------------------------------------------------------------------------------------------------------------------------
-- Venue links
------------------------------------------------------------------------------------------------------------------------

ALTER TABLE venue_provider ADD COLUMN settings jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(settings) = 'object');
COMMENT ON COLUMN venue_provider.settings IS 'What a person decided for this link, prices say; the provider class tells what it knows.';

CREATE TABLE provider_pivot (
    provider_id    bigint NOT NULL REFERENCES provider,
    venue_id       bigint NOT NULL REFERENCES venue ON DELETE CASCADE,
    id_at_provider text NOT NULL CHECK (length(id_at_provider) BETWEEN 1 AND 70),
    internal_id    text CHECK (length(internal_id) BETWEEN 1 AND 70),
    PRIMARY KEY (provider_id, venue_id),
    UNIQUE (provider_id, id_at_provider),
    UNIQUE (provider_id, internal_id)
);
COMMENT ON TABLE provider_pivot IS 'What a provider calls our venues, for providers that do not know them by SIRET.';

------------------------------------------------------------------------------------------------------------------------
-- Films, showtimes and pictures
------------------------------------------------------------------------------------------------------------------------

ALTER TABLE product
    ADD COLUMN duration_minutes integer CHECK (duration_minutes > 0),
    ADD COLUMN thumbs jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(thumbs) = 'object');
COMMENT ON COLUMN product.thumbs IS
    'By number, from 1 on: key of the picture in the object storage, and source, which tells whether it changed.';
COMMENT ON CONSTRAINT product_duration_minutes_check ON product IS 'duration_minutes: must be above 0';
COMMENT ON CONSTRAINT product_thumbs_check ON product IS 'thumbs: an object is needed, by number of the picture';

ALTER TABLE offer ADD COLUMN is_duo boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN offer.is_duo IS 'Whether two places can be booked at once.';

ALTER TABLE stock ADD COLUMN gone_since timestamptz;
COMMENT ON COLUMN stock.gone_since IS
    'When a complete listing no longer had it. With is_soft_deleted it is off sale; without, it has bookings and a person has to look at it.';
CREATE INDEX stock_gone_since ON stock (gone_since) WHERE gone_since IS NOT NULL AND NOT is_soft_deleted;

CREATE VIEW gone_with_bookings AS
SELECT
    provider.name AS provider, venue.name AS venue, offer.name AS offer, stock.id AS stock_id, stock.beginning_datetime,
    stock.booked_quantity, stock.gone_since, stock.id_at_providers
FROM stock
JOIN offer ON offer.id = stock.offer_id
JOIN venue ON venue.id = offer.venue_id
LEFT JOIN provider ON provider.id = stock.last_provider_id
WHERE stock.gone_since IS NOT NULL AND NOT stock.is_soft_deleted AND stock.booked_quantity > 0
AND coalesce(stock.beginning_datetime > now(), true);
COMMENT ON VIEW gone_with_bookings IS
    'Stocks still to come that their provider no longer lists although something is booked: a person has to look at them.';

------------------------------------------------------------------------------------------------------------------------
-- Edits by people. Whoever is not a sync and changes a column that providers write has it kept from them; a later edit
-- adds to the list. `SET provider_sync.writer = 'sync'` is for programs whose changes are nobody's decision.
------------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION note_edit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    edited text[];
BEGIN
    SELECT array_agg(after.key ORDER BY after.key) INTO edited
    FROM jsonb_each(to_jsonb(NEW)) AS after JOIN jsonb_each(to_jsonb(OLD)) AS before USING (key)
    WHERE after.value IS DISTINCT FROM before.value AND after.key = ANY(TG_ARGV);
    IF edited IS NOT NULL THEN
        NEW.fields_updated := ARRAY(
            SELECT DISTINCT field FROM unnest(NEW.fields_updated || edited) AS field ORDER BY field
        );
    END IF;
    RETURN NEW;
END $$;

DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT name, array_agg(column_name::text ORDER BY ordinal_position) AS fields
        FROM unnest(ARRAY['product', 'offer', 'stock']) AS name
        JOIN information_schema.columns ON table_schema = current_schema() AND table_name = name
        WHERE column_name NOT IN (
            'id', 'id_at_providers', 'id_at_provider', 'last_provider_id', 'date_modified_at_last_provider',
            'fields_updated', 'provider_dates', 'gone_since', 'booked_quantity', 'date_modified'
        )
        GROUP BY name
    LOOP
        EXECUTE format(
            'CREATE TRIGGER note_edit BEFORE UPDATE OF %s ON %I FOR EACH ROW WHEN (OLD.id_at_providers IS NOT NULL'
            ' AND current_setting(''provider_sync.writer'', true) IS DISTINCT FROM ''sync'')'
            ' EXECUTE FUNCTION note_edit(%s)',
            (SELECT string_agg(format('%I', field), ', ') FROM unnest(one.fields) AS field),
            one.name,
            (SELECT string_agg(format('%L', field), ', ') FROM unnest(one.fields) AS field)
        );
        EXECUTE format('CREATE INDEX %I ON %I (id) WHERE fields_updated <> ''{}''', one.name || '_edited', one.name);
    END LOOP;
END $$;

CREATE VIEW fields_held_back AS
SELECT 'product' AS table_name, id, field, to_jsonb(product) -> field AS value, id_at_providers, NULL::bigint AS venue_id
FROM product CROSS JOIN unnest(fields_updated) AS field WHERE fields_updated <> '{}'
UNION ALL
SELECT 'offer', id, field, to_jsonb(offer) -> field, id_at_providers, venue_id
FROM offer CROSS JOIN unnest(fields_updated) AS field WHERE fields_updated <> '{}'
UNION ALL
SELECT 'stock', stock.id, field, to_jsonb(stock) -> field, stock.id_at_providers, offer.venue_id
FROM stock JOIN offer ON offer.id = stock.offer_id CROSS JOIN unnest(stock.fields_updated) AS field
WHERE stock.fields_updated <> '{}';
COMMENT ON VIEW fields_held_back IS 'Fields that a person edited, with what they hold: no provider overwrites them. release_fields gives them back.';

CREATE FUNCTION release_fields(table_name text, row_id bigint, VARIADIC fields text[] DEFAULT '{}') RETURNS text[]
LANGUAGE plpgsql AS $$
-- Gives fields of a row (all of them without `fields`) back to the providers; returns which were held back until now.
-- The dates of the row are forgotten too, so that the next listing that has it writes it again.
DECLARE
    released text[];
    more text := '';
BEGIN
    IF table_name NOT IN ('product', 'offer', 'stock') THEN
        RAISE EXCEPTION 'release_fields: there is no table %, only product, offer, stock', quote_literal(table_name);
    END IF;
    IF table_name = 'product' THEN
        more := ', provider_dates = ''{}''';
    END IF;
    EXECUTE format(
        'WITH held AS (SELECT id, fields_updated FROM %1$I WHERE id = $1 FOR UPDATE)'
        ' UPDATE %1$I AS released SET date_modified_at_last_provider = NULL%2$s, fields_updated = ARRAY('
        '     SELECT field FROM unnest(held.fields_updated) AS field WHERE cardinality($2) > 0 AND field <> ALL($2)'
        ' ) FROM held WHERE released.id = held.id RETURNING ARRAY('
        '     SELECT field FROM unnest(held.fields_updated) AS field WHERE cardinality($2) = 0 OR field = ANY($2))',
        table_name, more
    ) INTO released USING row_id, fields;
    IF released IS NULL THEN
        RAISE EXCEPTION 'release_fields: there is no row % in %', row_id, table_name;
    END IF;
    RETURN released;
END $$;

------------------------------------------------------------------------------------------------------------------------
-- Rejected records
------------------------------------------------------------------------------------------------------------------------

ALTER TABLE rejected_record
    ADD COLUMN asked_at timestamptz,
    ADD COLUMN resolved_at timestamptz,
    ADD COLUMN resolution text CHECK (resolution IN ('replayed', 'rejected again', 'listed again', 'given up')),
    ADD CONSTRAINT rejected_record_resolution CHECK ((resolved_at IS NULL) = (resolution IS NULL));
COMMENT ON COLUMN rejected_record.id_at_providers IS 'Key of the object, or of the record, as far as it could be read.';
COMMENT ON COLUMN rejected_record.asked_at IS 'When its page was asked for: what was written later is newer than this record.';
COMMENT ON COLUMN rejected_record.resolution IS
    'How it ended: replayed, rejected again when it was replayed (there is a newer row), listed again wholly since (what is still bad was rejected anew), or given up: by a person, with the provider of its link, with its payload, or as older than this column. Null: it waits.';
UPDATE rejected_record SET resolved_at = now(), resolution = 'given up';  -- nobody can tell what is newer by now
CREATE INDEX rejected_record_open ON rejected_record (provider_id, venue_provider_id, id) WHERE resolved_at IS NULL;
CREATE INDEX rejected_record_open_payload ON rejected_record (md5(payload)) WHERE resolved_at IS NULL AND payload IS NOT NULL;

CREATE VIEW rejected_report AS
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
COMMENT ON VIEW rejected_report IS 'Rejected records with provider and venue; those without a resolution wait to be repaired and replayed.';

------------------------------------------------------------------------------------------------------------------------
-- What people read of loads: what is gone and what was held back, and the version of the scheme, since loads of two
-- versions stand side by side
------------------------------------------------------------------------------------------------------------------------

CREATE INDEX catalog_root ON catalog (coalesce(parent_id, id));

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
