-- Search indices that an external indexer rebuilds and we patch.

CREATE TABLE search_index (
    application_id        text NOT NULL,
    index_name            text NOT NULL,
    checkpoint_at         timestamptz,
    handled_moves         jsonb NOT NULL DEFAULT '[]',
    records               bigint,
    runs_since_comparison integer NOT NULL DEFAULT 0,
    dry_runs_shown        text[] NOT NULL DEFAULT '{}',
    settings              text,
    PRIMARY KEY (application_id, index_name)
);
COMMENT ON COLUMN search_index.checkpoint_at IS
    'Stamp of the newest entry of Algolia''s log that was handled; null: no run has patched the index yet.';
COMMENT ON COLUMN search_index.handled_moves IS
    'The moves handled of which the log may still tell: it is read from five minutes before the checkpoint on.';
COMMENT ON COLUMN search_index.dry_runs_shown IS 'Moves of which a scheduled dry run has shown what it would do.';
COMMENT ON COLUMN search_index.settings IS
    'Settings of the last scheduled run that told of them: a test message is sent when they change.';

CREATE TABLE search_pass (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    application_id text NOT NULL,
    index_name     text NOT NULL,
    run_id         text,
    reason         text NOT NULL,
    moves          jsonb NOT NULL DEFAULT '[]',
    patches        text[] NOT NULL,
    state          text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'superseded')),
    dry_run        boolean NOT NULL DEFAULT false,
    mark           jsonb,
    report         jsonb NOT NULL DEFAULT '{}',
    restarts       integer NOT NULL DEFAULT 0,
    error          text,
    started_at     timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz,
    FOREIGN KEY (application_id, index_name) REFERENCES search_index ON DELETE CASCADE
);
CREATE UNIQUE INDEX search_pass_open ON search_pass (application_id, index_name) WHERE state = 'open';
CREATE INDEX search_pass_index ON search_pass (application_id, index_name, id);
CREATE INDEX search_pass_run_id ON search_pass (run_id);
COMMENT ON TABLE search_pass IS 'Passes over an index: what began them, how far they are, what they found and changed.';
COMMENT ON COLUMN search_pass.mark IS 'Of an open pass: where the next run takes it up.';

-- From the first failure of something until it works again: people are told once of each, and of its end.
CREATE TABLE failure_episode (
    subject     text PRIMARY KEY,
    began_at    timestamptz NOT NULL DEFAULT now(),
    last_at     timestamptz NOT NULL DEFAULT now(),
    failures    integer NOT NULL DEFAULT 1,
    error       text NOT NULL,
    notified_at timestamptz
);

CREATE VIEW search_report AS
SELECT
    search_pass.id,
    search_pass.index_name,
    search_pass.reason,
    search_pass.state,
    search_pass.dry_run,
    patch.name AS patch,
    (search_pass.report ->> 'read')::bigint AS records_read,
    (patch.counts ->> 'changed')::bigint AS changed,
    (patch.counts ->> 'left_alone')::bigint AS left_alone,
    (search_pass.report ->> 'refused_count')::bigint AS refused,
    patch.counts -> 'values' AS "values",
    patch.counts -> 'remarks' AS remarks,
    (search_pass.report ->> 'batches')::bigint AS batches,
    (search_pass.report ->> 'seconds')::double precision AS seconds,
    search_pass.restarts,
    (SELECT max((move ->> 'at')::timestamptz) FROM jsonb_array_elements(search_pass.moves) AS move) AS moved_at,
    search_pass.started_at,
    search_pass.finished_at,
    search_pass.error,
    search_pass.run_id,
    search_pass.application_id
FROM search_pass
LEFT JOIN LATERAL jsonb_each(search_pass.report -> 'patches') AS patch (name, counts) ON true;
COMMENT ON VIEW search_report IS 'Per pass over a search index and patch: why, how many records, which values, how long.';
