-- A run that finds nothing to do leaves no pass, so the passes alone cannot tell whether anybody still looks.
ALTER TABLE search_index ADD COLUMN checked_at timestamptz;
COMMENT ON COLUMN search_index.checked_at IS 'When a run last read Algolia''s log for this index, dry or not; null: not since this column exists.';
