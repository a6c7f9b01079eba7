"""The inbound engine beside a model of it: what the tables must have after any story of syncs, kills and edits."""
