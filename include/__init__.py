"""The code of the project, free of Airflow but for `operators` and `web`."""
