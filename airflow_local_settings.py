"""Airflow's cluster policies: Airflow imports this file from the Python path when it starts.

https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/cluster-policies.html
"""

from include.operators.run_policy import task_instance_mutation_hook

__all__ = ["task_instance_mutation_hook"]
