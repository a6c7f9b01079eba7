-- A run without anything to do leaves no row in search_pass: this column shows that the index is still watched.
ALTER TABLE search_index ADD COLUMN checked_at timestamptz;
