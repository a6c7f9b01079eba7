"""The inbound engine: iterate, diff, chunk, report; the ledger of loads."""
