-- Search indices that an external indexer rebuilds and this project patches.

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

-- Open incidents.
CREATE TABLE failure_episode (
    subject     text PRIMARY KEY,
    began_at    timestamptz NOT NULL DEFAULT now(),
    last_at     timestamptz NOT NULL DEFAULT now(),
    failures    integer NOT NULL DEFAULT 1,
    error       text NOT NULL,
    notified_at timestamptz
);
