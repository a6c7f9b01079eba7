"""The inbound engine against a model of it: what the tables must hold after any story of syncs, kills and edits."""
