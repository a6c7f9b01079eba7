"""The inbound engine: reads a listing chunk by chunk, compares, fills and writes; opens and closes loads."""
