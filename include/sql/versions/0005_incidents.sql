-- Several callbacks may report one failed run, which counts once; a late run is part of the incident.
ALTER TABLE failure_episode
    ADD COLUMN run_ids text[] NOT NULL DEFAULT '{}',
    ADD COLUMN late_notified_at timestamptz;
