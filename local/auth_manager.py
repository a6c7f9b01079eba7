"""The auth manager of the local Airflow: the simple one, except that only an admin may delete DAGs and runs.

https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/auth-manager/simple/index.html
"""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser


class LocalAuthManager(SimpleAuthManager):
    """Denies the role `user` to delete, so that a slip cannot destroy the history of a DAG."""

    def is_authorized_dag(self, *, method: ResourceMethod, user: SimpleAuthManagerUser, **where: Any) -> bool:
        """Return whether a user may apply a method to a DAG or to its runs."""
        if method == "DELETE" and not self._is_admin(user):
            return False
        return super().is_authorized_dag(method=method, user=user, **where)
