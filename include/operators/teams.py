"""Posts alerts to a Teams channel, over the Airflow connection `teams`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from include.errors import ProviderSyncError

if TYPE_CHECKING:
    from include.models.alerts import Alert

log = logging.getLogger(__name__)

TEAMS = "teams"


def post_to_teams(alert: Alert, conn_id: str = TEAMS) -> bool:
    """Post an alert to the channel of an Airflow connection; returns False, with a line in the log, if that failed.

    The password of the connection is the URL of a Teams workflow. `channelId` and `apiKey` in its extra are sent with
    the alert, for workflows that require them.
    """
    from include.connectors.teams import adaptive_card, post_card

    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        log.info("Alert not sent: there is no Airflow connection %r", conn_id)
        return False
    url = connection.password or connection.host
    if not url:
        log.warning(
            "Alert not sent: the Airflow connection %r must have the URL of a Teams workflow as password", conn_id
        )
        return False
    extras = {name: str(value) for name, value in connection.extra_dejson.items() if name in ("channelId", "apiKey")}
    card = adaptive_card(alert.title, text=alert.body, facts=alert.facts, tone=alert.tone, url=alert.url)
    try:
        post_card(url, card, extras, conn_id=conn_id)
    except ProviderSyncError as error:
        log.warning("Could not deliver the alert to Teams: %s", error)
        return False
    log.info("Sent the alert %r to the Teams channel of connection %r", alert.title, conn_id)
    return True
