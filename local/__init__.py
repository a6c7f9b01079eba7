"""The local run: Airflow, PostgreSQL and the sandbox on one machine, without Docker. See `python -m local --help`."""
