# Astro Runtime 3.3-8 contains Airflow 3.3.2, the version of requirements.txt. Its ONBUILD steps install packages.txt
# and requirements.txt and copy the project.
FROM astrocrpublic.azurecr.io/runtime:3.3-8

# `include` is imported by DAGs and plugins from the project's root.
ENV PYTHONPATH=/usr/local/airflow
