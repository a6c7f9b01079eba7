CREATE OR REPLACE VIEW source_offer AS
SELECT
    offer.id AS offer_id, offer.venue_id, offer.name, offer.description, offer.id_at_providers, offer.product_id,
    offer.is_active, venue.name AS venue_name, venue.siret AS venue_siret,
    (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'stock_id', stock.id, 'price', stock.price, 'quantity', stock.quantity,
            'beginning', stock.beginning_datetime, 'booking_limit', stock.booking_limit_datetime,
            'booked_quantity', stock.booked_quantity
        ) ORDER BY stock.id), '[]') FROM stock WHERE stock.offer_id = offer.id AND NOT stock.is_soft_deleted) AS stocks
FROM offer JOIN venue ON venue.id = offer.venue_id;
