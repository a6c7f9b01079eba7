CREATE OR REPLACE VIEW source_event AS
SELECT
    event.id AS event_id, event.slug, event.name, event.date_from, event.date_to, event.locales, event.name_parts,
    event.public_url,
    (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'identifier', question.identifier, 'label', question.label, 'type', question.type,
            'options', (SELECT coalesce(jsonb_agg(jsonb_build_array(o.identifier, o.label) ORDER BY o.id), '[]')
                        FROM question_option AS o WHERE o.question_id = question.id)
        ) ORDER BY question.id), '[]') FROM question WHERE question.event_id = event.id) AS questions,
    (SELECT coalesce(jsonb_agg(jsonb_build_object('id', list.id, 'name', list.name) ORDER BY list.id), '[]')
        FROM checkin_list AS list WHERE list.event_id = event.id) AS checkin_lists
FROM event;
