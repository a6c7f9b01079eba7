-- Comments on all tables, views and columns. `make migrate` applies them after the revisions, views and functions.
-- docs/reference/tables-and-views.md is generated from them.
--
-- A line is `table or view: comment`, and below it `column: comment`, indented by 4; lines that are indented by 8
-- continue the line before. `column (tables and views): comment` is for columns that several of them have.

DO $$
DECLARE
    entry text[]; -- indentation, name, the tables and views of a shared column, comment
    relation regclass;
    place text;
BEGIN
    FOR entry IN SELECT regexp_matches(regexp_replace($comments$
# Columns that mean the same in several tables and views
id (booking catalog catalog_operation_instance_result catalog_scheme catalog_scheme_operation
        catalog_scheme_operation_instance checkin checkin_list customer_order event fields_held_back
        local_provider_event offer order_position outbound_history outbound_log outbound_mapping outbound_queue
        outbound_result outbound_run payment product provider question question_option rejected_record rejected_report
        search_pass search_report stock sub_event ticket_product venue venue_provider): Id of the row.
application_id (search_index search_pass search_report): Id of the Algolia application.
attempts (catalog_scheme_operation_instance load_report): Number of attempts.
attendee_email (order_position source_position): Email address of the attendee.
attendee_name_parts (order_position source_position): Name of the attendee as a JSON object, by part.
batches (search_report): Batches that Algolia accepted.
beginning_datetime (stock gone_with_bookings): When the showtime begins; null for goods.
booked_quantity (stock gone_with_bookings): Sum of the bookings that are not cancelled; a trigger of booking maintains
        it.
booking_email (venue offer): Address that is notified of bookings.
city (invoice_address order_position source_position): City of the address.
code (customer_order source_order): Code of the order, unique within its event.
code (outbound_history outbound_log outbound_problems): Code of the order, or id of the offer.
company (invoice_address order_position source_position): Company of the address.
country (invoice_address order_position source_position): Country of the address.
created_at (catalog_operation_instance_result outbound_mapping rejected_record rejected_report): When the row was
        created.
date_from (event source_event sub_event): When the event begins.
date_to (event source_event sub_event): When the event ends.
description (product offer source_offer): Description for customers.
dry_run (load_report search_pass search_report): Whether the run only read and compared.
email (customer_order source_order): Email address of the customer.
error (catalog_scheme_operation_instance load_report): Why the last attempt failed; null if it did not.
error (search_pass search_report): Why the open pass failed; the next run resumes it.
event_id (checkin_list customer_order question source_event source_order sub_event ticket_product): The event.
extra_data (product offer): Further data, such as the ISBN, as JSON.
failed_attempts (outbound_queue outbound_problems): Attempts that failed since the last success.
finished_at (catalog_scheme_operation_instance load_report outbound_report outbound_run search_pass search_report): When
        it ended; null while it runs.
id_at_provider (offer): Reference of the offer, unique within its venue.
id_at_providers (product offer stock fields_held_back gone_with_bookings source_offer): Key of the object at its
        providers; null for rows that were created manually.
last_provider_id (product offer stock): The provider that wrote the row last; null for rows that were created manually.
date_modified_at_last_provider (product offer stock): Date of the record that was written last. An older record never
        overwrites the row.
fields_updated (product offer stock): Manual overrides: columns that a person edited. No provider overwrites them.
index_name (search_index search_pass search_report): Name of the search index.
instance_id (catalog_operation_instance_result local_provider_event load_report rejected_record rejected_report): The
        operation instance, a row of catalog_scheme_operation_instance.
is_active (offer source_offer): Whether the offer is published.
is_active (provider venue_provider): Whether it is synced.
is_admission (source_position ticket_product): Whether the product admits a person to the event.
is_canceled (order_position source_position): Whether the position was canceled.
link (outbound_history outbound_log): Link to the object at the target.
locale (customer_order source_order): Language of the customer.
locales (event source_event): Languages of the event; the first is the default.
mapping_id (outbound_history outbound_log outbound_result): Id of the mapping within the mappings.
messages (outbound_history outbound_log outbound_problems outbound_queue): What went wrong, in plain words.
name (checkin_list event product provider offer source_event source_offer sub_event ticket_product venue): Name for
        people.
name_parts (event source_event): The parts of a person's name that the event asks for, in order.
next_try_at (outbound_history outbound_log outbound_problems): When it is retried; null if a person must act.
number (order_position source_position): Number of the position within its order.
order_id (invoice_address order_position payment source_order source_position): The order.
outcome (outbound_history outbound_log): sent, nothing_to_do (equal to what was sent last), not_synced, retry, failed or
        canceled.
parent_id (order_position source_position): For an add-on, the position that it belongs to; that one supplies missing
        attendee data.
attempt (outbound_history outbound_log): Number of the attempt.
payload (outbound_history outbound_log): What was sent; personal values are masked.
payload (rejected_record rejected_report): The record as received, with personal fields masked; cleared after the
        retention time.
placed_at (customer_order source_order): When the order was placed.
position_id (answer checkin source_position): The position of the order.
position_id (outbound_history outbound_log outbound_result): The position of the order, or the stock of the offer; null
        for the whole order or offer.
price (order_position source_position): Price of the position.
product_id (offer source_offer): The product that is offered.
product_id (order_position source_position): The ticket product.
provider (gone_with_bookings load_report rejected_report): Name of the provider.
provider_id (catalog_scheme local_provider_event provider_pivot rejected_record venue_provider): The provider.
public_url (event source_event): Address of the event's page.
reason (outbound_history outbound_log outbound_problems): Why it is parked: exceeded (too many attempts), permanent,
        config (mapping or settings), internal (bug) or timeout.
reason (rejected_record rejected_report): Why the record was rejected.
reason (search_pass search_report): Why the index was read: move, first run, forced, comparison, …
resolved_at (rejected_record rejected_report): When it was resolved; null while it waits.
restarts (search_pass search_report): How often it started from scratch because the index was rebuilt meanwhile.
run_id (catalog load_report outbound_history outbound_report outbound_run rejected_report search_pass search_report):
        DAG id and run id, separated by a slash.
secret (customer_order order_position source_order source_position): Secret of the link that gives access to it.
since (catalog_scheme_operation_instance load_report): Start of the requested window; null: everything.
slug (event source_event): Short name of the event, unique.
source (change_feed change_feed_consumer outbound_history outbound_log outbound_problems outbound_queue
        outbound_result): Kind of the object: order or offer.
source_id (change_feed outbound_history outbound_log outbound_problems outbound_queue outbound_result): Id of the order
        or offer.
started_at (outbound_report outbound_run search_pass search_report): When it started.
started_at (catalog_scheme_operation_instance load_report): Start of the first attempt that the cursor goes back to; it
        becomes the watermark.
state (catalog_scheme_operation_instance load_report): new, running, done, failed or skipped.
state (search_pass search_report): open, done, or superseded when the index is rebuilt faster than it can be patched.
status (customer_order source_order): n pending, p paid, e expired, c canceled.
street (invoice_address order_position source_position): Street of the address.
sub_event_id (order_position source_position): The date of an event series.
subcategory_id (product offer): Category, such as LIVRE_PAPIER.
target (outbound_history outbound_log outbound_mapping outbound_problems outbound_queue outbound_report outbound_result
        outbound_run): Identifier of the outbound target.
total (customer_order source_order): Total price of the order.
triggered_at (outbound_problems outbound_queue): When it was queued.
triggered_by (outbound_history outbound_log outbound_problems outbound_queue): The change that queued it, or user for a
        manual request.
at (outbound_history outbound_log): When it was tried.
variation (order_position source_position): Variation of the ticket product.
venue (gone_with_bookings load_report rejected_report): Name of the venue; all for a provider without venues.
venue_id (fields_held_back offer provider_pivot source_offer venue_provider): The venue.
venue_provider_id (catalog load_report local_provider_event rejected_record rejected_report): The venue link, a row of
        venue_provider; null for a provider without venues.
voucher_code (order_position source_position): Code of the voucher that was used.
withdrawal_details (venue offer): How customers collect a booking.
zipcode (invoice_address order_position source_position): Postal code of the address.

# Providers and venues
provider: External suppliers of data. Each has a class in include/providers.
    local_class: Name of the class in include/providers.
    last_sync_date: Watermark of a provider without venue links; see venue_provider.last_sync_date.
venue: Bookshops, cinemas and other places that offer something.
    siret: SIRET number, by which most providers know the venue.
    departement_code: Number of the French département.
venue_provider: Venue links: which provider supplies which venue.
    venue_id_at_offer_provider: Id of the venue at the provider.
    last_sync_date: Watermark: start of the last run that was complete, had no limit, was not a dry run and did not
        fail. The next run reads from here; null reads everything.
    settings: Settings of this link, such as prices; the provider class defines which there are.
provider_pivot: Ids of venues at providers that do not know them by SIRET.
    id_at_provider: Id of the venue at the provider.
    internal_id: Second id of the venue at the provider, if it uses one internally.

# Products, offers and stocks
product: Reference data of books, films and other products.
    is_gcu_compatible: Whether the terms of use allow offers of this product.
    is_synchronization_compatible: Whether providers may create offers of this product.
    provider_dates: Date of the last record of each provider, by provider id.
    duration_minutes: Duration of a film in minutes.
    thumbs: Images by number, starting at 1: key in the object storage, and source, which shows whether the image
        changed.
offer: What a venue offers: a product, or a film.
    is_duo: Whether one booking may be for two seats.
stock: What can be booked of an offer: copies at a price, or the seats of a showtime.
    offer_id: The offer.
    price: Price in euros.
    quantity: Available and booked together; null: unlimited.
    raw_provider_quantity: Available quantity as the provider sent it.
    booking_limit_datetime: End of booking.
    is_soft_deleted: Whether it is off sale.
    date_modified: When the quantity last changed.
    gone_since: When a complete listing no longer had it. With is_soft_deleted it is off sale; without, it has bookings
        that a person must look at.
booking: Bookings of stocks.
    stock_id: The stock.
    quantity: How many are booked.
    is_cancelled: Whether the booking was cancelled.
    date_created: When the booking was made.
gone_with_bookings: Future stocks with bookings that their provider no longer lists. A person must look at them.
    offer: Name of the offer.
    stock_id: The stock.
    gone_since: When a complete listing no longer had it.
fields_held_back: Manual overrides: fields that a person edited, with their values. No provider overwrites them.
        release_fields() or the parameter release_fields gives them back to the providers.
    table_name: product, offer or stock.
    field: Name of the column.
    value: Current value, as JSON.

# The ledger of loads
catalog_scheme: The operations of a load, by provider and version. When a provider's structure changes, a version is
        added; the highest is current.
    version: Version of the provider's structure.
    error_limit: A load stops after more failed operations than this; null: never.
catalog_scheme_operation: Operations of a scheme. Each runs one provider class.
    catalog_scheme_id: The scheme.
    name: Dotted path of the provider class.
    error_allowance: Error budget: a sync fails when it rejects more records than error_allowance + error_share *
        records read.
    error_share: Share of records in the error budget; see error_allowance.
catalog: Loads: one row per load of a provider (parent_id is null), and one below it per venue link.
    catalog_scheme_id: The scheme that the load follows.
    parent_id: The load that this row of a venue link belongs to.
    state: open, loaded, partially loaded or failed.
    parameters: Parameters of the run, as JSON.
    opened_at: When the load was opened.
    closed_at: When the load was closed.
catalog_scheme_operation_instance: One operation of one load. The transaction of each chunk updates cursor and progress,
        so that the next attempt resumes there and counts nothing twice.
    operation_id: The operation.
    catalog_id: The load of the venue link.
    batch: Number of the mapped task that runs it.
    until: End of the requested window; null: now.
    cursor: Where the next attempt resumes; null: at the beginning.
    progress: Counts and timings so far, as JSON.
catalog_operation_instance_result: Results of operation instances, one per finished attempt.
    attempt: Number of the attempt.
    state: done, failed or skipped.
    report: Counts and timings, as JSON.
load_report: Loads by venue link: counts of objects, seconds of each step, records per second.
    records: Records that the source listed.
    checked: Objects that they describe: created + updated + unchanged + skipped + rejected.
    created: Objects that were created.
    updated: Objects that were updated.
    unchanged: Objects that were up to date.
    skipped: Objects that are not for us, such as books that are not eligible.
    rejected: Objects that could not be used; see rejected_report.
    fetch_seconds: Time spent waiting for pages.
    iterate_seconds: Time spent turning records into objects.
    diff_seconds: Time spent comparing objects with their rows.
    upsert_seconds: Time spent writing rows.
    seconds: Total time.
    records_per_second: Records per second of total time.
    catalog_id: The load, a row of catalog.
    scheme_version: Version of the provider's scheme.
    gone: Removals: rows that a complete listing no longer had. They are taken off sale, or kept for a person.
    held_back: Objects with manual overrides that were kept.
rejected_record: Records that could not be used, kept so that they can be repaired and replayed.
    model: Kind of the object, such as Stock.
    id_at_providers: Key of the object or record, as far as it could be read.
    asked_at: When its page was requested. Rows written later are newer than this record.
    resolution: How it was resolved. replayed; rejected again: replaying it rejected it as a new row; listed again: the
        source was listed completely since, and rejected what was still bad as new rows; given up: by a person, or
        because its payload or venue link was removed. Null: it waits.
rejected_report: Rejected records with provider and venue. Those without a resolution wait to be repaired and replayed.
    model: Kind of the object, such as Stock.
    reference: Key of the object or record, as far as it could be read.
    resolution: How it was resolved: replayed, rejected again, listed again or given up.
local_provider_event: Start and end of each sync.
    type: SyncStart, SyncEnd or SyncError.
    date: When it happened.
    payload: Details, such as the error.
service_pace: Rate limiter: one row per service, shared by all workers.
    service: Connection id of the service.
    next_at: When the next request may be sent.

# Search and incidents
search_index: Search indices that are watched, with the state of each.
    checkpoint_at: Time of the newest entry of Algolia's log that was handled; null before the first patch.
    handled_moves: Moves that were handled and may be listed again: the log is read from five minutes before the
        checkpoint.
    records: Number of records at the last pass.
    runs_since_comparison: Runs since the whole index was last compared.
    dry_runs_shown: Moves and reasons whose changes a scheduled dry run has shown.
    settings: Settings of the scheduled runs. When they change, a dry run sends one test message.
    checked_at: When a run last read Algolia's log, dry runs included.
search_pass: Passes over search indices: why they ran, how far they are, what they found and changed.
    moves: The moves that the pass handles, as JSON.
    patches: Names of the patches.
    mark: Checkpoint of an open pass, where the next run resumes it.
    report: Counts, as JSON.
search_report: Passes over search indices, by patch: reason, number of records, values, duration.
    patch: Name of the patch.
    records_read: Records read.
    changed: Records that this patch changed; in a dry run, would change.
    left_alone: Records that this patch does not apply to.
    refused: Records that could not be patched.
    values: How often the patch gave each value.
    remarks: Unexpected contents, and how often each occurred.
    seconds: Duration of the pass.
    moved_at: When the last move was accepted that the pass handled.
failure_episode: Open incidents: from the first failed or late run of a DAG to its next good run. Each sends one alert,
        and one when it ends.
    subject: DAG id.
    began_at: When the incident began.
    last_at: When a run last failed or was late.
    failures: Number of failed runs; 0 if a run was only late.
    error: The last error.
    notified_at: When the alert of the failure was delivered.
    run_ids: The latest failed runs; a run that is reported twice counts once.
    late_notified_at: When the alert of the late run was delivered.

# Events and orders
event: Ticketed events.
    timezone: Time zone of the event.
sub_event: Dates of an event series.
ticket_product: Tickets and other products of an event.
    internal_name: Name for staff; targets receive it instead of name.
customer_order: Orders of ticketed events.
    expires_at: When the order expires if it is not paid.
payment: Payments of orders.
    amount: Amount.
    paid_at: When it was paid; null while it is pending.
invoice_address: Invoice addresses of orders.
    name_parts: Name as a JSON object, by part.
order_position: Positions of orders: tickets and add-ons.
question: Questions that an event asks its attendees.
    identifier: Identifier, unique within the event.
    label: The question.
    type: N number, S line of text, T text, B yes or no, C one option, M several options, D date, H time, W date and
        time, CC country, TEL phone number, F file.
question_option: Options of questions.
    question_id: The question.
    identifier: Identifier, unique within the question.
    label: The option.
answer: Answers to questions, by position.
    question_id: The question.
    answer: The answer as text.
    options: Identifiers of the chosen options.
checkin_list: Check-in lists of events.
checkin: Scans of tickets.
    list_id: The check-in list.
    at: When the ticket was scanned.
    type: entry or exit.
    is_successful: Whether the person was admitted.
    is_annulled: Whether the check-in was annulled afterwards.
source_event: Events as outbound targets see them. Questions and check-in lists become source fields.
    questions: Questions with their options, as JSON.
    checkin_lists: Check-in lists, as JSON.
source_order: Orders as outbound targets see them.
    paid_at: When the last payment was made.
    invoice_address: Invoice address, as JSON.
source_position: Positions of orders as outbound targets see them.
    product: Internal name of the ticket product, or its name.
    sub_event_name: Name of the date of an event series.
    sub_event_date_from: When that date begins.
    sub_event_date_to: When that date ends.
    answers: Answers by identifier of the question, as JSON.
    checkins: Time of the first entry by check-in list, as JSON.
source_offer: Offers with their stocks as outbound targets see them.
    offer_id: The offer.
    venue_name: Name of the venue.
    venue_siret: SIRET number of the venue.
    stocks: Stocks on sale, as JSON.

# The change feed and outbound targets
change_feed: Changes of orders and offers. A statement adds one entry per object and kind of change; consumers read all
        changes of a transaction together.
    txid: The transaction. Consumers read entries below the oldest open transaction, so that one that commits late is
        not missed.
    change: placed, paid, canceled, reactivated, expired, expiry_changed, modified, changed, checkin or checkin_annulled
        of an order; created, changed or stock_changed of an offer.
    at: When the transaction began.
change_feed_consumer: Consumers of the change feed, with their positions. Only the tables of a source with a consumer
        have triggers.
    consumer: Name of the consumer, such as the identifier of a target.
    last_txid: Together with last_id, the last entry read. A new consumer starts at the oldest open transaction.
    last_id: Id of the last object read of that transaction.
    cluster: The server that numbers the transactions. After a restore on another server, positions are void and
        everything is read again.
outbound_mapping: Versions of the mappings of each target.
    version: Number of the version.
    mappings: Which fields go where, as JSON.
    is_current: Whether the target uses this version.
    note: Where the version comes from.
outbound_queue: Orders and offers to send: per object and target at most one row in flight and one that waits.
    event_id: The event of the order; 0 for an offer.
    not_before: When it may be sent.
    need_manual_retry: Why it is parked until a person acts: exceeded, permanent, config, internal or timeout; null: it
        is not parked.
    in_flight: Whether a worker is sending it.
    in_flight_since: Since when a worker is sending it.
    claimed_by: Key of the worker that is sending it. The worker holds the advisory lock of that key; if the lock is
        free, the worker has died.
outbound_run: Runs of the workers of each target.
    counts: Counts by outcome, as JSON.
outbound_result: The last result of each object at each target.
    external_object_type: Type of the object at the target.
    external_id_field: Field of the target that identifies the object.
    id_value: Value of that field.
    external_link_href: Link to the object at the target.
    external_link_display_name: Text of that link.
    transmitted_at: When it was last sent.
    sync_info: What the target returned, as JSON.
    sent: Digest of each value that was sent last, by external field: it shows what changed, not the values.
outbound_log: Every attempt to send an object to a target.
    run_id: The run, a row of outbound_run.
outbound_report: Runs of outbound targets: orders and objects by outcome.
    claimers: Number of workers.
    orders_sent: Orders sent.
    orders_unchanged: Orders equal to what was sent last.
    orders_to_retry: Orders that failed and are retried.
    orders_parked: Orders that failed and wait for a person.
    objects_sent: Objects sent.
    objects_unchanged: Objects equal to what was sent last.
    objects_not_synced: Objects that the target does not receive.
    objects_failed: Objects that failed.
    seconds: Duration in seconds, of the slowest worker.
    down: Why the target was unavailable; null if it was not.
outbound_problems: Orders and offers that could not be sent: why, how often, and when they are retried.
    event: Slug of the event.
    state: tried again by itself, or waits for a person.
outbound_history: What was sent of each order or offer, when, and with what outcome. Personal values are masked.
$comments$, '\n {8}', ' ', 'g'), '^( *)(\w+)(?: \(([\w ]+)\))?: (.+)$', 'gn')
    LOOP
        IF entry[1] = '' AND entry[3] IS NULL THEN
            relation := entry[2];
            EXECUTE format('COMMENT ON %s %s IS %L', (
                SELECT CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END FROM pg_class WHERE oid = relation
            ), relation, entry[4]);
        ELSE
            FOREACH place IN ARRAY string_to_array(coalesce(entry[3], relation::text), ' ') LOOP
                EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', place, entry[2], entry[4]);
            END LOOP;
        END IF;
    END LOOP;
END $$;

COMMENT ON COLUMN alembic_version.version_num IS 'The newest revision.';

COMMENT ON FUNCTION release_fields(text, bigint, text[]) IS
    'Removes manual overrides of a row, all or only some fields, so that providers write these fields again. Returns the removed ones.';

-- Why a row was rejected. The engine shows the comment of the constraint that a row violates.
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
