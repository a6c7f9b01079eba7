"""The local run: Airflow, PostgreSQL and the sandbox on this machine, without Docker; `python -m local --help`."""
