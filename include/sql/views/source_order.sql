CREATE OR REPLACE VIEW source_order AS
SELECT
    customer_order.id AS order_id, customer_order.event_id, customer_order.code, customer_order.status,
    customer_order.email, customer_order.locale, customer_order.total, customer_order.placed_at, customer_order.secret,
    (SELECT max(payment.paid_at) FROM payment WHERE payment.order_id = customer_order.id) AS paid_at,
    to_jsonb(invoice_address) - 'order_id' AS invoice_address
FROM customer_order
LEFT JOIN invoice_address ON invoice_address.order_id = customer_order.id;
