-- Settings of venue links, images, removed rows, manual overrides, replay of rejected records.

-- This locks product, offer and stock exclusively until it commits. Waiting for a long-running reader would make every
-- booking queue behind the migration. It fails instead, changes nothing, and can be run again.
SET LOCAL lock_timeout = '10s';

------------------------------------------------------------------------------------------------------------------------
-- Venue links
------------------------------------------------------------------------------------------------------------------------

ALTER TABLE venue_provider ADD COLUMN settings jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(settings) = 'object');

CREATE TABLE provider_pivot (
    provider_id    bigint NOT NULL REFERENCES provider,
    venue_id       bigint NOT NULL REFERENCES venue ON DELETE CASCADE,
    id_at_provider text NOT NULL CHECK (length(id_at_provider) BETWEEN 1 AND 70),
    internal_id    text CHECK (length(internal_id) BETWEEN 1 AND 70),
    PRIMARY KEY (provider_id, venue_id),
    UNIQUE (provider_id, id_at_provider),
    UNIQUE (provider_id, internal_id)
);

------------------------------------------------------------------------------------------------------------------------
-- Films, showtimes and images
------------------------------------------------------------------------------------------------------------------------

ALTER TABLE product
    ADD COLUMN duration_minutes integer CHECK (duration_minutes > 0),
    ADD COLUMN thumbs jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(thumbs) = 'object');

ALTER TABLE offer ADD COLUMN is_duo boolean NOT NULL DEFAULT false;

ALTER TABLE stock ADD COLUMN gone_since timestamptz;
CREATE INDEX stock_gone_since ON stock (gone_since) WHERE gone_since IS NOT NULL AND NOT is_soft_deleted;

------------------------------------------------------------------------------------------------------------------------
-- Manual overrides. When anything but a sync changes a column that providers write, the column is added to
-- fields_updated. `SET provider_sync.writer = 'sync'` exempts a program's writes.
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

------------------------------------------------------------------------------------------------------------------------
-- Rejected records
------------------------------------------------------------------------------------------------------------------------

ALTER TABLE rejected_record
    ADD COLUMN asked_at timestamptz,
    ADD COLUMN resolved_at timestamptz,
    ADD COLUMN resolution text CHECK (resolution IN ('replayed', 'rejected again', 'listed again', 'given up')),
    ADD CONSTRAINT rejected_record_resolution CHECK ((resolved_at IS NULL) = (resolution IS NULL));
UPDATE rejected_record SET resolved_at = now(), resolution = 'given up';  -- whether newer rows exist is unknown
CREATE INDEX rejected_record_open ON rejected_record (provider_id, venue_provider_id, id) WHERE resolved_at IS NULL;
CREATE INDEX rejected_record_open_payload ON rejected_record (md5(payload)) WHERE resolved_at IS NULL AND payload IS NOT NULL;

------------------------------------------------------------------------------------------------------------------------
-- Loads
------------------------------------------------------------------------------------------------------------------------

CREATE INDEX catalog_root ON catalog (coalesce(parent_id, id));
