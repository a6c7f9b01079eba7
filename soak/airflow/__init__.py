"""Many venues through a whole Airflow: four suppliers of stocks, a thousand bookshops each."""
