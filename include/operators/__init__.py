"""Airflow operators: they only adapt the engines to Airflow's connections, parameters, logs and retries."""
