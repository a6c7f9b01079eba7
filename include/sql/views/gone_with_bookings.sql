CREATE OR REPLACE VIEW gone_with_bookings AS
SELECT
    provider.name AS provider, venue.name AS venue, offer.name AS offer, stock.id AS stock_id, stock.beginning_datetime,
    stock.booked_quantity, stock.gone_since, stock.id_at_providers
FROM stock
JOIN offer ON offer.id = stock.offer_id
JOIN venue ON venue.id = offer.venue_id
LEFT JOIN provider ON provider.id = stock.last_provider_id
WHERE stock.gone_since IS NOT NULL AND NOT stock.is_soft_deleted AND stock.booked_quantity > 0
AND coalesce(stock.beginning_datetime > now(), true);
