-- Incidents: each run counts once, although several callbacks report it, and a late run is part of the incident.
ALTER TABLE failure_episode
    ADD COLUMN run_ids text[] NOT NULL DEFAULT '{}',
    ADD COLUMN late_notified_at timestamptz;
COMMENT ON TABLE failure_episode IS
    'Incidents that are open: from the first failed or late run of a DAG until a run is good. Each sends one alert, and one when it is over.';
COMMENT ON COLUMN failure_episode.failures IS 'Failed runs; 0 when a run was only late.';
COMMENT ON COLUMN failure_episode.run_ids IS 'The last runs that were counted.';
COMMENT ON COLUMN failure_episode.notified_at IS 'When the alert of a failure was delivered.';
COMMENT ON COLUMN failure_episode.late_notified_at IS 'When the alert of a late run was delivered.';
