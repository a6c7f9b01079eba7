CREATE OR REPLACE VIEW source_position AS
SELECT
    position.id AS position_id, position.order_id, position.number, position.parent_id, position.product_id,
    coalesce(nullif(product.internal_name, ''), product.name) AS product, position.variation, product.is_admission,
    position.price, position.is_canceled, position.secret, position.voucher_code, position.attendee_name_parts,
    position.attendee_email, position.company, position.street, position.zipcode, position.city, position.country,
    position.sub_event_id, sub_event.name AS sub_event_name, sub_event.date_from AS sub_event_date_from,
    sub_event.date_to AS sub_event_date_to,
    (SELECT coalesce(jsonb_object_agg(question.identifier,
            jsonb_build_object('answer', answer.answer, 'options', to_jsonb(answer.options))), '{}')
        FROM answer JOIN question ON question.id = answer.question_id
        WHERE answer.position_id = position.id) AS answers,
    (SELECT coalesce(jsonb_object_agg(first.list_id, first.at), '{}')
        FROM (SELECT checkin.list_id, min(checkin.at) AS at FROM checkin
              WHERE checkin.position_id = position.id AND checkin.type = 'entry' AND checkin.is_successful
                AND NOT checkin.is_annulled
              GROUP BY checkin.list_id) AS first) AS checkins
FROM order_position AS position
JOIN ticket_product AS product ON product.id = position.product_id
LEFT JOIN sub_event ON sub_event.id = position.sub_event_id;
