"""Who may do what in the local Airflow: Airflow's simple auth manager, but only an admin deletes DAGs and their runs.

https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/auth-manager/simple/index.html
"""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser


class LocalAuthManager(SimpleAuthManager):
    """Keeps the role `user` from deleting: a person who triggers runs must not lose the history of a DAG by a slip."""

    def is_authorized_dag(self, *, method: ResourceMethod, user: SimpleAuthManagerUser, **where: Any) -> bool:
        """Whether a user may do this to a DAG, or to what belongs to it."""
        if method == "DELETE" and not self._is_admin(user):
            return False
        return super().is_authorized_dag(method=method, user=user, **where)
