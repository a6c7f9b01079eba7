CREATE OR REPLACE VIEW outbound_problems AS
SELECT
    queue.target,
    coalesce(source_order.code, queue.source_id::text) AS code,
    source_event.slug AS event,
    CASE WHEN queue.need_manual_retry IS NULL THEN 'tried again by itself' ELSE 'waits for a person' END AS state,
    queue.need_manual_retry AS reason,
    queue.messages,
    queue.failed_attempts,
    CASE WHEN queue.need_manual_retry IS NULL THEN queue.not_before END AS next_try_at,
    queue.triggered_by,
    queue.triggered_at,
    queue.source,
    queue.source_id
FROM outbound_queue AS queue
LEFT JOIN source_order ON queue.source = 'order' AND source_order.order_id = queue.source_id
LEFT JOIN source_event ON source_event.event_id = source_order.event_id
WHERE queue.need_manual_retry IS NOT NULL OR queue.failed_attempts > 0;
