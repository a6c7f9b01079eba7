# Astro Runtime 3.3-8 carries Airflow 3.3.2, the version of requirements.txt. It installs packages.txt and
# requirements.txt and copies the project by itself.
FROM astrocrpublic.azurecr.io/runtime:3.3-8

# `include` is imported by DAGs and plugins from the project's root.
ENV PYTHONPATH=/usr/local/airflow
