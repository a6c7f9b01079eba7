"""The long runs through a whole Airflow, with stand-ins for four suppliers of stocks."""
