-- Comments on all tables, views and columns. `make migrate` applies them after the revisions, views and functions.
-- docs/reference/tables-and-views.md is generated from them.

------------------------------------------------------------------------------------------------------------------------
-- Columns that mean the same in several tables and views
------------------------------------------------------------------------------------------------------------------------

DO $$
DECLARE
    shared record;
BEGIN
    FOR shared IN
        SELECT relation, column_name, comment
        FROM (VALUES
            ('id', 'booking catalog catalog_operation_instance_result catalog_scheme catalog_scheme_operation
                catalog_scheme_operation_instance checkin checkin_list customer_order event fields_held_back
                local_provider_event offer order_position outbound_history outbound_log outbound_mapping outbound_queue
                outbound_result outbound_run payment product provider question question_option rejected_record
                rejected_report search_pass search_report stock sub_event ticket_product venue venue_provider',
                'Id of the row.'),
            ('application_id', 'search_index search_pass search_report', 'Id of the Algolia application.'),
            ('attempts', 'catalog_scheme_operation_instance load_report', 'Number of attempts.'),
            ('attendee_email', 'order_position source_position', 'Email address of the attendee.'),
            ('attendee_name_parts', 'order_position source_position', 'Name of the attendee as a JSON object, by part.'),
            ('batches', 'search_report', 'Batches that Algolia accepted.'),
            ('beginning_datetime', 'stock gone_with_bookings', 'When the showtime begins; null for goods.'),
            ('booked_quantity', 'stock gone_with_bookings',
                'Sum of the bookings that are not cancelled; a trigger of booking maintains it.'),
            ('booking_email', 'venue offer', 'Address that is notified of bookings.'),
            ('city', 'invoice_address order_position source_position', 'City of the address.'),
            ('code', 'customer_order source_order', 'Code of the order, unique within its event.'),
            ('code', 'outbound_history outbound_log outbound_problems', 'Code of the order, or id of the offer.'),
            ('company', 'invoice_address order_position source_position', 'Company of the address.'),
            ('country', 'invoice_address order_position source_position', 'Country of the address.'),
            ('created_at', 'catalog_operation_instance_result outbound_mapping rejected_record rejected_report',
                'When the row was created.'),
            ('date_from', 'event source_event sub_event', 'When the event begins.'),
            ('date_to', 'event source_event sub_event', 'When the event ends.'),
            ('description', 'product offer source_offer', 'Description for customers.'),
            ('dry_run', 'load_report search_pass search_report', 'Whether the run only read and compared.'),
            ('email', 'customer_order source_order', 'Email address of the customer.'),
            ('error', 'catalog_scheme_operation_instance load_report', 'Why the last attempt failed; null if it did not.'),
            ('error', 'search_pass search_report', 'Why the open pass failed; the next run resumes it.'),
            ('event_id', 'checkin_list customer_order question source_event source_order sub_event ticket_product',
                'The event.'),
            ('extra_data', 'product offer', 'Further data, such as the ISBN, as JSON.'),
            ('failed_attempts', 'outbound_queue outbound_problems', 'Attempts that failed since the last success.'),
            ('finished_at', 'catalog_scheme_operation_instance load_report outbound_report outbound_run search_pass
                search_report', 'When it ended; null while it runs.'),
            ('id_at_provider', 'offer', 'Reference of the offer, unique within its venue.'),
            ('id_at_providers', 'product offer stock fields_held_back gone_with_bookings source_offer',
                'Key of the object at its providers; null for rows that were created manually.'),
            ('last_provider_id', 'product offer stock',
                'The provider that wrote the row last; null for rows that were created manually.'),
            ('date_modified_at_last_provider', 'product offer stock',
                'Date of the record that was written last. An older record never overwrites the row.'),
            ('fields_updated', 'product offer stock',
                'Manual overrides: columns that a person edited. No provider overwrites them.'),
            ('index_name', 'search_index search_pass search_report', 'Name of the search index.'),
            ('instance_id', 'catalog_operation_instance_result local_provider_event load_report rejected_record
                rejected_report', 'The operation instance, a row of catalog_scheme_operation_instance.'),
            ('is_active', 'offer source_offer', 'Whether the offer is published.'),
            ('is_active', 'provider venue_provider', 'Whether it is synced.'),
            ('is_admission', 'source_position ticket_product', 'Whether the product admits a person to the event.'),
            ('is_canceled', 'order_position source_position', 'Whether the position was canceled.'),
            ('link', 'outbound_history outbound_log', 'Link to the object at the target.'),
            ('locale', 'customer_order source_order', 'Language of the customer.'),
            ('locales', 'event source_event', 'Languages of the event; the first is the default.'),
            ('mapping_id', 'outbound_history outbound_log outbound_result', 'Id of the mapping within the mappings.'),
            ('messages', 'outbound_history outbound_log outbound_problems outbound_queue',
                'What went wrong, in plain words.'),
            ('name', 'checkin_list event product provider offer source_event source_offer sub_event ticket_product
                venue', 'Name for people.'),
            ('name_parts', 'event source_event', 'The parts of a person''s name that the event asks for, in order.'),
            ('next_try_at', 'outbound_history outbound_log outbound_problems',
                'When it is retried; null if a person must act.'),
            ('number', 'order_position source_position', 'Number of the position within its order.'),
            ('order_id', 'invoice_address order_position payment source_order source_position', 'The order.'),
            ('outcome', 'outbound_history outbound_log',
                'sent, nothing_to_do (equal to what was sent last), not_synced, retry, failed or canceled.'),
            ('parent_id', 'order_position source_position',
                'For an add-on, the position that it belongs to; that one supplies missing attendee data.'),
            ('attempt', 'outbound_history outbound_log', 'Number of the attempt.'),
            ('payload', 'outbound_history outbound_log', 'What was sent; personal values are masked.'),
            ('payload', 'rejected_record rejected_report',
                'The record as received, with personal fields masked; cleared after the retention time.'),
            ('placed_at', 'customer_order source_order', 'When the order was placed.'),
            ('position_id', 'answer checkin source_position', 'The position of the order.'),
            ('position_id', 'outbound_history outbound_log outbound_result',
                'The position of the order, or the stock of the offer; null for the whole order or offer.'),
            ('price', 'order_position source_position', 'Price of the position.'),
            ('product_id', 'offer source_offer', 'The product that is offered.'),
            ('product_id', 'order_position source_position', 'The ticket product.'),
            ('provider', 'gone_with_bookings load_report rejected_report', 'Name of the provider.'),
            ('provider_id', 'catalog_scheme local_provider_event provider_pivot rejected_record venue_provider',
                'The provider.'),
            ('public_url', 'event source_event', 'Address of the event''s page.'),
            ('reason', 'outbound_history outbound_log outbound_problems',
                'Why it is parked: exceeded (too many attempts), permanent, config (mapping or settings), internal (bug)
                or timeout.'),
            ('reason', 'rejected_record rejected_report', 'Why the record was rejected.'),
            ('reason', 'search_pass search_report', 'Why the index was read: move, first run, forced, comparison, …'),
            ('resolved_at', 'rejected_record rejected_report', 'When it was resolved; null while it waits.'),
            ('restarts', 'search_pass search_report',
                'How often it started from scratch because the index was rebuilt meanwhile.'),
            ('run_id', 'catalog load_report outbound_history outbound_report outbound_run rejected_report search_pass
                search_report', 'DAG id and run id, separated by a slash.'),
            ('secret', 'customer_order order_position source_order source_position',
                'Secret of the link that gives access to it.'),
            ('since', 'catalog_scheme_operation_instance load_report',
                'Start of the requested window; null: everything.'),
            ('slug', 'event source_event', 'Short name of the event, unique.'),
            ('source', 'change_feed change_feed_consumer outbound_history outbound_log outbound_problems outbound_queue
                outbound_result', 'Kind of the object: order or offer.'),
            ('source_id', 'change_feed outbound_history outbound_log outbound_problems outbound_queue outbound_result',
                'Id of the order or offer.'),
            ('started_at', 'outbound_report outbound_run search_pass search_report', 'When it started.'),
            ('started_at', 'catalog_scheme_operation_instance load_report',
                'Start of the first attempt that the cursor goes back to; it becomes the watermark.'),
            ('state', 'catalog_scheme_operation_instance load_report', 'new, running, done, failed or skipped.'),
            ('state', 'search_pass search_report',
                'open, done, or superseded when the index is rebuilt faster than it can be patched.'),
            ('status', 'customer_order source_order', 'n pending, p paid, e expired, c canceled.'),
            ('street', 'invoice_address order_position source_position', 'Street of the address.'),
            ('sub_event_id', 'order_position source_position', 'The date of an event series.'),
            ('subcategory_id', 'product offer', 'Category, such as LIVRE_PAPIER.'),
            ('target', 'outbound_history outbound_log outbound_mapping outbound_problems outbound_queue outbound_report
                outbound_result outbound_run', 'Identifier of the outbound target.'),
            ('total', 'customer_order source_order', 'Total price of the order.'),
            ('triggered_at', 'outbound_problems outbound_queue', 'When it was queued.'),
            ('triggered_by', 'outbound_history outbound_log outbound_problems outbound_queue',
                'The change that queued it, or user for a manual request.'),
            ('at', 'outbound_history outbound_log', 'When it was tried.'),
            ('variation', 'order_position source_position', 'Variation of the ticket product.'),
            ('venue', 'gone_with_bookings load_report rejected_report',
                'Name of the venue; all for a provider without venues.'),
            ('venue_id', 'fields_held_back offer provider_pivot source_offer venue_provider', 'The venue.'),
            ('venue_provider_id', 'catalog load_report local_provider_event rejected_record rejected_report',
                'The venue link, a row of venue_provider; null for a provider without venues.'),
            ('voucher_code', 'order_position source_position', 'Code of the voucher that was used.'),
            ('withdrawal_details', 'venue offer', 'How customers collect a booking.'),
            ('zipcode', 'invoice_address order_position source_position', 'Postal code of the address.')
        ) AS shared_columns (column_name, relations, comment)
        CROSS JOIN regexp_split_to_table(relations, '\s+') AS relation
    LOOP
        EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', shared.relation, shared.column_name,
                       regexp_replace(shared.comment, '\s+', ' ', 'g'));
    END LOOP;
END $$;

------------------------------------------------------------------------------------------------------------------------
-- Providers and venues
------------------------------------------------------------------------------------------------------------------------

COMMENT ON TABLE provider IS 'External suppliers of data. Each has a class in include/providers.';
COMMENT ON COLUMN provider.local_class IS 'Name of the class in include/providers.';
COMMENT ON COLUMN provider.last_sync_date IS 'Watermark of a provider without venue links; see venue_provider.last_sync_date.';

COMMENT ON TABLE venue IS 'Bookshops, cinemas and other places that offer something.';
COMMENT ON COLUMN venue.siret IS 'SIRET number, by which most providers know the venue.';
COMMENT ON COLUMN venue.departement_code IS 'Number of the French département.';

COMMENT ON TABLE venue_provider IS 'Venue links: which provider supplies which venue.';
COMMENT ON COLUMN venue_provider.venue_id_at_offer_provider IS 'Id of the venue at the provider.';
COMMENT ON COLUMN venue_provider.last_sync_date IS
    'Watermark: start of the last run that was complete, had no limit, was not a dry run and did not fail. The next run reads from here; null reads everything.';
COMMENT ON COLUMN venue_provider.settings IS 'Settings of this link, such as prices; the provider class defines which there are.';

COMMENT ON TABLE provider_pivot IS 'Ids of venues at providers that do not know them by SIRET.';
COMMENT ON COLUMN provider_pivot.id_at_provider IS 'Id of the venue at the provider.';
COMMENT ON COLUMN provider_pivot.internal_id IS 'Second id of the venue at the provider, if it uses one internally.';

------------------------------------------------------------------------------------------------------------------------
-- Products, offers and stocks
------------------------------------------------------------------------------------------------------------------------

COMMENT ON TABLE product IS 'Reference data of books, films and other products.';
COMMENT ON COLUMN product.is_gcu_compatible IS 'Whether the terms of use allow offers of this product.';
COMMENT ON COLUMN product.is_synchronization_compatible IS 'Whether providers may create offers of this product.';
COMMENT ON COLUMN product.provider_dates IS 'Date of the last record of each provider, by provider id.';
COMMENT ON COLUMN product.duration_minutes IS 'Duration of a film in minutes.';
COMMENT ON COLUMN product.thumbs IS
    'Images by number, starting at 1: key in the object storage, and source, which shows whether the image changed.';

COMMENT ON TABLE offer IS 'What a venue offers: a product, or a film.';
COMMENT ON COLUMN offer.is_duo IS 'Whether one booking may be for two seats.';

COMMENT ON TABLE stock IS 'What can be booked of an offer: copies at a price, or the seats of a showtime.';
COMMENT ON COLUMN stock.offer_id IS 'The offer.';
COMMENT ON COLUMN stock.price IS 'Price in euros.';
COMMENT ON COLUMN stock.quantity IS 'Available and booked together; null: unlimited.';
COMMENT ON COLUMN stock.raw_provider_quantity IS 'Available quantity as the provider sent it.';
COMMENT ON COLUMN stock.booking_limit_datetime IS 'End of booking.';
COMMENT ON COLUMN stock.is_soft_deleted IS 'Whether it is off sale.';
COMMENT ON COLUMN stock.date_modified IS 'When the quantity last changed.';
COMMENT ON COLUMN stock.gone_since IS
    'When a complete listing no longer had it. With is_soft_deleted it is off sale; without, it has bookings that a person must look at.';

COMMENT ON TABLE booking IS 'Bookings of stocks.';
COMMENT ON COLUMN booking.stock_id IS 'The stock.';
COMMENT ON COLUMN booking.quantity IS 'How many are booked.';
COMMENT ON COLUMN booking.is_cancelled IS 'Whether the booking was cancelled.';
COMMENT ON COLUMN booking.date_created IS 'When the booking was made.';

COMMENT ON VIEW gone_with_bookings IS
    'Future stocks with bookings that their provider no longer lists. A person must look at them.';
COMMENT ON COLUMN gone_with_bookings.offer IS 'Name of the offer.';
COMMENT ON COLUMN gone_with_bookings.stock_id IS 'The stock.';
COMMENT ON COLUMN gone_with_bookings.gone_since IS 'When a complete listing no longer had it.';

COMMENT ON VIEW fields_held_back IS
    'Manual overrides: fields that a person edited, with their values. No provider overwrites them. release_fields() or the parameter release_fields gives them back to the providers.';
COMMENT ON COLUMN fields_held_back.table_name IS 'product, offer or stock.';
COMMENT ON COLUMN fields_held_back.field IS 'Name of the column.';
COMMENT ON COLUMN fields_held_back.value IS 'Current value, as JSON.';

COMMENT ON FUNCTION release_fields(text, bigint, text[]) IS
    'Removes manual overrides of a row, all or only some fields, so that providers write these fields again. Returns the removed ones.';

------------------------------------------------------------------------------------------------------------------------
-- The ledger of loads
------------------------------------------------------------------------------------------------------------------------

COMMENT ON TABLE catalog_scheme IS
    'The operations of a load, by provider and version. When a provider''s structure changes, a version is added; the highest is current.';
COMMENT ON COLUMN catalog_scheme.version IS 'Version of the provider''s structure.';
COMMENT ON COLUMN catalog_scheme.error_limit IS 'A load stops after more failed operations than this; null: never.';

COMMENT ON TABLE catalog_scheme_operation IS 'Operations of a scheme. Each runs one provider class.';
COMMENT ON COLUMN catalog_scheme_operation.catalog_scheme_id IS 'The scheme.';
COMMENT ON COLUMN catalog_scheme_operation.name IS 'Dotted path of the provider class.';
COMMENT ON COLUMN catalog_scheme_operation.error_allowance IS
    'Error budget: a sync fails when it rejects more records than error_allowance + error_share * records read.';
COMMENT ON COLUMN catalog_scheme_operation.error_share IS 'Share of records in the error budget; see error_allowance.';

COMMENT ON TABLE catalog IS 'Loads: one row per load of a provider (parent_id is null), and one below it per venue link.';
COMMENT ON COLUMN catalog.catalog_scheme_id IS 'The scheme that the load follows.';
COMMENT ON COLUMN catalog.parent_id IS 'The load that this row of a venue link belongs to.';
COMMENT ON COLUMN catalog.state IS 'open, loaded, partially loaded or failed.';
COMMENT ON COLUMN catalog.parameters IS 'Parameters of the run, as JSON.';
COMMENT ON COLUMN catalog.opened_at IS 'When the load was opened.';
COMMENT ON COLUMN catalog.closed_at IS 'When the load was closed.';

COMMENT ON TABLE catalog_scheme_operation_instance IS
    'One operation of one load. The transaction of each chunk updates cursor and progress, so that the next attempt resumes there and counts nothing twice.';
COMMENT ON COLUMN catalog_scheme_operation_instance.operation_id IS 'The operation.';
COMMENT ON COLUMN catalog_scheme_operation_instance.catalog_id IS 'The load of the venue link.';
COMMENT ON COLUMN catalog_scheme_operation_instance.batch IS 'Number of the mapped task that runs it.';
COMMENT ON COLUMN catalog_scheme_operation_instance.until IS 'End of the requested window; null: now.';
COMMENT ON COLUMN catalog_scheme_operation_instance.cursor IS 'Where the next attempt resumes; null: at the beginning.';
COMMENT ON COLUMN catalog_scheme_operation_instance.progress IS 'Counts and timings so far, as JSON.';

COMMENT ON TABLE catalog_operation_instance_result IS 'Results of operation instances, one per finished attempt.';
COMMENT ON COLUMN catalog_operation_instance_result.attempt IS 'Number of the attempt.';
COMMENT ON COLUMN catalog_operation_instance_result.state IS 'done, failed or skipped.';
COMMENT ON COLUMN catalog_operation_instance_result.report IS 'Counts and timings, as JSON.';

COMMENT ON VIEW load_report IS 'Loads by venue link: counts of objects, seconds of each step, records per second.';
COMMENT ON COLUMN load_report.records IS 'Records that the source listed.';
COMMENT ON COLUMN load_report.checked IS 'Objects that they describe: created + updated + unchanged + skipped + rejected.';
COMMENT ON COLUMN load_report.created IS 'Objects that were created.';
COMMENT ON COLUMN load_report.updated IS 'Objects that were updated.';
COMMENT ON COLUMN load_report.unchanged IS 'Objects that were up to date.';
COMMENT ON COLUMN load_report.skipped IS 'Objects that are not for us, such as books that are not eligible.';
COMMENT ON COLUMN load_report.rejected IS 'Objects that could not be used; see rejected_report.';
COMMENT ON COLUMN load_report.fetch_seconds IS 'Time spent waiting for pages.';
COMMENT ON COLUMN load_report.iterate_seconds IS 'Time spent turning records into objects.';
COMMENT ON COLUMN load_report.diff_seconds IS 'Time spent comparing objects with their rows.';
COMMENT ON COLUMN load_report.upsert_seconds IS 'Time spent writing rows.';
COMMENT ON COLUMN load_report.seconds IS 'Total time.';
COMMENT ON COLUMN load_report.records_per_second IS 'Records per second of total time.';
COMMENT ON COLUMN load_report.catalog_id IS 'The load, a row of catalog.';
COMMENT ON COLUMN load_report.scheme_version IS 'Version of the provider''s scheme.';
COMMENT ON COLUMN load_report.gone IS 'Removals: rows that a complete listing no longer had. They are taken off sale, or kept for a person.';
COMMENT ON COLUMN load_report.held_back IS 'Objects with manual overrides that were kept.';

COMMENT ON TABLE rejected_record IS 'Records that could not be used, kept so that they can be repaired and replayed.';
COMMENT ON COLUMN rejected_record.model IS 'Kind of the object, such as Stock.';
COMMENT ON COLUMN rejected_record.id_at_providers IS 'Key of the object or record, as far as it could be read.';
COMMENT ON COLUMN rejected_record.asked_at IS 'When its page was requested. Rows written later are newer than this record.';
COMMENT ON COLUMN rejected_record.resolution IS
    'How it was resolved; null while it waits. replayed: a replay wrote it; rejected again: a replay rejected it, as a new row; listed again: a later listing has it or was complete, and rejected what is still bad as new rows; given up: by a person, or because its payload or venue link was removed.';

COMMENT ON VIEW rejected_report IS
    'Rejected records with provider and venue. Those without a resolution wait to be repaired and replayed.';
COMMENT ON COLUMN rejected_report.model IS 'Kind of the object, such as Stock.';
COMMENT ON COLUMN rejected_report.reference IS 'Key of the object or record, as far as it could be read.';
COMMENT ON COLUMN rejected_report.resolution IS 'How it was resolved: replayed, rejected again, listed again or given up.';

COMMENT ON TABLE local_provider_event IS 'Start and end of each sync.';
COMMENT ON COLUMN local_provider_event.type IS 'SyncStart, SyncEnd or SyncError.';
COMMENT ON COLUMN local_provider_event.date IS 'When it happened.';
COMMENT ON COLUMN local_provider_event.payload IS 'Details, such as the error.';

COMMENT ON TABLE service_pace IS 'Rate limiter: one row per service, shared by all workers.';
COMMENT ON COLUMN service_pace.service IS 'Connection id of the service.';
COMMENT ON COLUMN service_pace.next_at IS 'When the next request may be sent.';

------------------------------------------------------------------------------------------------------------------------
-- Search and incidents
------------------------------------------------------------------------------------------------------------------------

COMMENT ON TABLE search_index IS 'Search indices that are watched, with the state of each.';
COMMENT ON COLUMN search_index.checkpoint_at IS
    'Time of the newest entry of Algolia''s log that was handled; null before the first patch.';
COMMENT ON COLUMN search_index.handled_moves IS
    'Moves that were handled and may be listed again: the log is read from five minutes before the checkpoint.';
COMMENT ON COLUMN search_index.records IS 'Number of records at the last pass.';
COMMENT ON COLUMN search_index.runs_since_comparison IS 'Runs since the whole index was last compared.';
COMMENT ON COLUMN search_index.dry_runs_shown IS 'Moves and reasons whose changes a scheduled dry run has shown.';
COMMENT ON COLUMN search_index.settings IS
    'Settings of the scheduled runs. When they change, a dry run sends one test message.';
COMMENT ON COLUMN search_index.checked_at IS 'When a run last read Algolia''s log, dry runs included.';

COMMENT ON TABLE search_pass IS 'Passes over search indices: why they ran, how far they are, what they found and changed.';
COMMENT ON COLUMN search_pass.moves IS 'The moves that the pass handles, as JSON.';
COMMENT ON COLUMN search_pass.patches IS 'Names of the patches.';
COMMENT ON COLUMN search_pass.mark IS 'Checkpoint of an open pass, where the next run resumes it.';
COMMENT ON COLUMN search_pass.report IS 'Counts, as JSON.';

COMMENT ON VIEW search_report IS 'Passes over search indices, by patch: reason, number of records, values, duration.';
COMMENT ON COLUMN search_report.patch IS 'Name of the patch.';
COMMENT ON COLUMN search_report.records_read IS 'Records read.';
COMMENT ON COLUMN search_report.changed IS 'Records that this patch changed; in a dry run, would change.';
COMMENT ON COLUMN search_report.left_alone IS 'Records that this patch does not apply to.';
COMMENT ON COLUMN search_report.refused IS 'Records that could not be patched.';
COMMENT ON COLUMN search_report."values" IS 'How often the patch gave each value.';
COMMENT ON COLUMN search_report.remarks IS 'Unexpected contents, and how often each occurred.';
COMMENT ON COLUMN search_report.seconds IS 'Duration of the pass.';
COMMENT ON COLUMN search_report.moved_at IS 'When the last move was accepted that the pass handled.';

COMMENT ON TABLE failure_episode IS
    'Open incidents: from the first failed or late run of a DAG to its next good run. Each sends one alert, and one when it ends.';
COMMENT ON COLUMN failure_episode.subject IS 'DAG id.';
COMMENT ON COLUMN failure_episode.began_at IS 'When the incident began.';
COMMENT ON COLUMN failure_episode.last_at IS 'When a run last failed or was late.';
COMMENT ON COLUMN failure_episode.failures IS 'Number of failed runs; 0 if a run was only late.';
COMMENT ON COLUMN failure_episode.error IS 'The last error.';
COMMENT ON COLUMN failure_episode.notified_at IS 'When the alert of the failure was delivered.';
COMMENT ON COLUMN failure_episode.run_ids IS 'The latest failed runs; a run that is reported twice counts once.';
COMMENT ON COLUMN failure_episode.late_notified_at IS 'When the alert of the late run was delivered.';

------------------------------------------------------------------------------------------------------------------------
-- Events and orders
------------------------------------------------------------------------------------------------------------------------

COMMENT ON TABLE event IS 'Ticketed events.';
COMMENT ON COLUMN event.timezone IS 'Time zone of the event.';

COMMENT ON TABLE sub_event IS 'Dates of an event series.';

COMMENT ON TABLE ticket_product IS 'Tickets and other products of an event.';
COMMENT ON COLUMN ticket_product.internal_name IS 'Name for staff; targets receive it instead of name.';

COMMENT ON TABLE customer_order IS 'Orders of ticketed events.';
COMMENT ON COLUMN customer_order.expires_at IS 'When the order expires if it is not paid.';

COMMENT ON TABLE payment IS 'Payments of orders.';
COMMENT ON COLUMN payment.amount IS 'Amount.';
COMMENT ON COLUMN payment.paid_at IS 'When it was paid; null while it is pending.';

COMMENT ON TABLE invoice_address IS 'Invoice addresses of orders.';
COMMENT ON COLUMN invoice_address.name_parts IS 'Name as a JSON object, by part.';

COMMENT ON TABLE order_position IS 'Positions of orders: tickets and add-ons.';

COMMENT ON TABLE question IS 'Questions that an event asks its attendees.';
COMMENT ON COLUMN question.identifier IS 'Identifier, unique within the event.';
COMMENT ON COLUMN question.label IS 'The question.';
COMMENT ON COLUMN question.type IS
    'N number, S line of text, T text, B yes or no, C one option, M several options, D date, H time, W date and time, CC country, TEL phone number, F file.';

COMMENT ON TABLE question_option IS 'Options of questions.';
COMMENT ON COLUMN question_option.question_id IS 'The question.';
COMMENT ON COLUMN question_option.identifier IS 'Identifier, unique within the question.';
COMMENT ON COLUMN question_option.label IS 'The option.';

COMMENT ON TABLE answer IS 'Answers to questions, by position.';
COMMENT ON COLUMN answer.question_id IS 'The question.';
COMMENT ON COLUMN answer.answer IS 'The answer as text.';
COMMENT ON COLUMN answer.options IS 'Identifiers of the chosen options.';

COMMENT ON TABLE checkin_list IS 'Check-in lists of events.';

COMMENT ON TABLE checkin IS 'Scans of tickets.';
COMMENT ON COLUMN checkin.list_id IS 'The check-in list.';
COMMENT ON COLUMN checkin.at IS 'When the ticket was scanned.';
COMMENT ON COLUMN checkin.type IS 'entry or exit.';
COMMENT ON COLUMN checkin.is_successful IS 'Whether the person was admitted.';
COMMENT ON COLUMN checkin.is_annulled IS 'Whether the check-in was annulled afterwards.';

COMMENT ON VIEW source_event IS 'Events as outbound targets see them. Questions and check-in lists become source fields.';
COMMENT ON COLUMN source_event.questions IS 'Questions with their options, as JSON.';
COMMENT ON COLUMN source_event.checkin_lists IS 'Check-in lists, as JSON.';

COMMENT ON VIEW source_order IS 'Orders as outbound targets see them.';
COMMENT ON COLUMN source_order.paid_at IS 'When the last payment was made.';
COMMENT ON COLUMN source_order.invoice_address IS 'Invoice address, as JSON.';

COMMENT ON VIEW source_position IS 'Positions of orders as outbound targets see them.';
COMMENT ON COLUMN source_position.product IS 'Internal name of the ticket product, or its name.';
COMMENT ON COLUMN source_position.sub_event_name IS 'Name of the date of an event series.';
COMMENT ON COLUMN source_position.sub_event_date_from IS 'When that date begins.';
COMMENT ON COLUMN source_position.sub_event_date_to IS 'When that date ends.';
COMMENT ON COLUMN source_position.answers IS 'Answers by identifier of the question, as JSON.';
COMMENT ON COLUMN source_position.checkins IS 'Time of the first entry by check-in list, as JSON.';

COMMENT ON VIEW source_offer IS 'Offers with their stocks as outbound targets see them.';
COMMENT ON COLUMN source_offer.offer_id IS 'The offer.';
COMMENT ON COLUMN source_offer.venue_name IS 'Name of the venue.';
COMMENT ON COLUMN source_offer.venue_siret IS 'SIRET number of the venue.';
COMMENT ON COLUMN source_offer.stocks IS 'Stocks on sale, as JSON.';

------------------------------------------------------------------------------------------------------------------------
-- The change feed and outbound targets
------------------------------------------------------------------------------------------------------------------------

COMMENT ON TABLE change_feed IS
    'Changes of orders and offers. A statement adds one entry per object and kind of change; consumers read all changes of a transaction together.';
COMMENT ON COLUMN change_feed.txid IS
    'The transaction. Consumers read entries below the oldest open transaction, so that one that commits late is not missed.';
COMMENT ON COLUMN change_feed.change IS
    'placed, paid, canceled, reactivated, expired, expiry_changed, modified, changed, checkin or checkin_annulled of an order; created, changed or stock_changed of an offer.';
COMMENT ON COLUMN change_feed.at IS 'When the transaction began.';

COMMENT ON TABLE change_feed_consumer IS
    'Consumers of the change feed, with their positions. Only the tables of a source with a consumer have triggers.';
COMMENT ON COLUMN change_feed_consumer.consumer IS 'Name of the consumer, such as the identifier of a target.';
COMMENT ON COLUMN change_feed_consumer.last_txid IS
    'Together with last_id, the last entry read. A new consumer starts at the oldest open transaction.';
COMMENT ON COLUMN change_feed_consumer.last_id IS 'Id of the last object read of that transaction.';
COMMENT ON COLUMN change_feed_consumer.cluster IS
    'The server that numbers the transactions. After a restore on another server, positions are void and everything is read again.';

COMMENT ON TABLE outbound_mapping IS 'Versions of the mappings of each target.';
COMMENT ON COLUMN outbound_mapping.version IS 'Number of the version.';
COMMENT ON COLUMN outbound_mapping.mappings IS 'Which fields go where, as JSON.';
COMMENT ON COLUMN outbound_mapping.is_current IS 'Whether the target uses this version.';
COMMENT ON COLUMN outbound_mapping.note IS 'Where the version comes from.';

COMMENT ON TABLE outbound_queue IS
    'Orders and offers to send: per object and target at most one row in flight and one that waits.';
COMMENT ON COLUMN outbound_queue.event_id IS 'The event of the order; 0 for an offer.';
COMMENT ON COLUMN outbound_queue.not_before IS 'When it may be sent.';
COMMENT ON COLUMN outbound_queue.need_manual_retry IS
    'Why it is parked until a person acts: exceeded, permanent, config, internal or timeout; null: it is not parked.';
COMMENT ON COLUMN outbound_queue.in_flight IS 'Whether a worker is sending it.';
COMMENT ON COLUMN outbound_queue.in_flight_since IS 'Since when a worker is sending it.';
COMMENT ON COLUMN outbound_queue.claimed_by IS
    'Key of the worker that is sending it. The worker holds the advisory lock of that key; if the lock is free, the worker has died.';

COMMENT ON TABLE outbound_run IS 'Runs of the workers of each target.';
COMMENT ON COLUMN outbound_run.counts IS 'Counts by outcome, as JSON.';

COMMENT ON TABLE outbound_result IS 'The last result of each object at each target.';
COMMENT ON COLUMN outbound_result.external_object_type IS 'Type of the object at the target.';
COMMENT ON COLUMN outbound_result.external_id_field IS 'Field of the target that identifies the object.';
COMMENT ON COLUMN outbound_result.id_value IS 'Value of that field.';
COMMENT ON COLUMN outbound_result.external_link_href IS 'Link to the object at the target.';
COMMENT ON COLUMN outbound_result.external_link_display_name IS 'Text of that link.';
COMMENT ON COLUMN outbound_result.transmitted_at IS 'When it was last sent.';
COMMENT ON COLUMN outbound_result.sync_info IS 'What the target returned, as JSON.';
COMMENT ON COLUMN outbound_result.sent IS
    'Digest of each value that was sent last, by external field: it shows what changed, not the values.';

COMMENT ON TABLE outbound_log IS 'Every attempt to send an object to a target.';
COMMENT ON COLUMN outbound_log.run_id IS 'The run, a row of outbound_run.';

COMMENT ON VIEW outbound_report IS 'Runs of outbound targets: orders and objects by outcome.';
COMMENT ON COLUMN outbound_report.claimers IS 'Number of workers.';
COMMENT ON COLUMN outbound_report.orders_sent IS 'Orders sent.';
COMMENT ON COLUMN outbound_report.orders_unchanged IS 'Orders equal to what was sent last.';
COMMENT ON COLUMN outbound_report.orders_to_retry IS 'Orders that failed and are retried.';
COMMENT ON COLUMN outbound_report.orders_parked IS 'Orders that failed and wait for a person.';
COMMENT ON COLUMN outbound_report.objects_sent IS 'Objects sent.';
COMMENT ON COLUMN outbound_report.objects_unchanged IS 'Objects equal to what was sent last.';
COMMENT ON COLUMN outbound_report.objects_not_synced IS 'Objects that the target does not receive.';
COMMENT ON COLUMN outbound_report.objects_failed IS 'Objects that failed.';
COMMENT ON COLUMN outbound_report.seconds IS 'Duration in seconds, of the slowest worker.';
COMMENT ON COLUMN outbound_report.down IS 'Why the target was unavailable; null if it was not.';

COMMENT ON VIEW outbound_problems IS 'Orders and offers that could not be sent: why, how often, and when they are retried.';
COMMENT ON COLUMN outbound_problems.event IS 'Slug of the event.';
COMMENT ON COLUMN outbound_problems.state IS 'tried again by itself, or waits for a person.';

COMMENT ON VIEW outbound_history IS 'What was sent of each order or offer, when, and with what outcome. Personal values are masked.';

COMMENT ON COLUMN alembic_version.version_num IS 'The newest revision.';

------------------------------------------------------------------------------------------------------------------------
-- Why a row was rejected. The engine shows the comment of the constraint that a row violates.
------------------------------------------------------------------------------------------------------------------------

COMMENT ON CONSTRAINT offer_venue_id_id_at_provider_key ON offer IS
    'the venue already has another offer with this reference: give that one its id_at_providers, or remove it';
COMMENT ON CONSTRAINT offer_product_id_fkey ON offer IS 'product_id: there is no such product';
COMMENT ON CONSTRAINT offer_name_check ON offer IS 'name: must have 1 to 140 characters';
COMMENT ON CONSTRAINT offer_id_at_providers_check ON offer IS 'the key is empty or longer than 255 characters';
COMMENT ON CONSTRAINT product_name_check ON product IS 'name: must have 1 to 140 characters';
COMMENT ON CONSTRAINT product_id_at_providers_check ON product IS 'the key is empty or longer than 255 characters';
COMMENT ON CONSTRAINT product_duration_minutes_check ON product IS 'duration_minutes: must be above 0';
COMMENT ON CONSTRAINT product_thumbs_check ON product IS 'thumbs: must be an object, by number of the image';
COMMENT ON CONSTRAINT stock_offer_id_fkey ON stock IS 'offer_id: there is no such offer';
COMMENT ON CONSTRAINT stock_id_at_providers_check ON stock IS 'the key is empty or longer than 255 characters';
COMMENT ON CONSTRAINT stock_price_check ON stock IS 'price: must be a number, 0 or above';
COMMENT ON CONSTRAINT stock_quantity_check ON stock IS 'quantity: must be 0 or above';
COMMENT ON CONSTRAINT stock_quantity_covers_bookings ON stock IS 'quantity: less than what is already booked';
COMMENT ON CONSTRAINT stock_booking_limit_before_beginning ON stock IS 'booking_limit_datetime: later than the beginning';
