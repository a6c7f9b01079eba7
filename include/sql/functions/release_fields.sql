CREATE OR REPLACE FUNCTION release_fields(table_name text, row_id bigint, VARIADIC fields text[] DEFAULT '{}')
RETURNS text[] LANGUAGE plpgsql AS $$
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
    -- Without its dates, the row counts as older than the next listing that has it, which writes it again.
    EXECUTE format(
        'WITH current AS (SELECT id, fields_updated FROM %1$I WHERE id = $1 FOR UPDATE)'
        ' UPDATE %1$I AS released SET date_modified_at_last_provider = NULL%2$s, fields_updated = ARRAY('
        '     SELECT field FROM unnest(current.fields_updated) AS field WHERE cardinality($2) > 0 AND field <> ALL($2)'
        ' ) FROM current WHERE released.id = current.id RETURNING ARRAY('
        '     SELECT field FROM unnest(current.fields_updated) AS field WHERE cardinality($2) = 0 OR field = ANY($2))',
        table_name, more
    ) INTO released USING row_id, fields;
    IF released IS NULL THEN
        RAISE EXCEPTION 'release_fields: there is no row % in %', row_id, table_name;
    END IF;
    RETURN released;
END $$;
