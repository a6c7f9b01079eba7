"""The inbound engine next to a model of it: what the tables must contain after any story of syncs, kills and edits."""
