"""PostgreSQL: functions that take a connection."""
