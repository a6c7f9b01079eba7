CREATE OR REPLACE VIEW fields_held_back AS
SELECT 'product' AS table_name, id, field, to_jsonb(product) -> field AS value, id_at_providers, NULL::bigint AS venue_id
FROM product CROSS JOIN unnest(fields_updated) AS field WHERE fields_updated <> '{}'
UNION ALL
SELECT 'offer', id, field, to_jsonb(offer) -> field, id_at_providers, venue_id
FROM offer CROSS JOIN unnest(fields_updated) AS field WHERE fields_updated <> '{}'
UNION ALL
SELECT 'stock', stock.id, field, to_jsonb(stock) -> field, stock.id_at_providers, offer.venue_id
FROM stock JOIN offer ON offer.id = stock.offer_id CROSS JOIN unnest(stock.fields_updated) AS field
WHERE stock.fields_updated <> '{}';
