"""Alerts in a Teams channel, over the Airflow connection `teams`."""

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
    """Post an alert to the channel of an Airflow connection; False, with a line in the log, if it was not delivered.

    The password of the connection is the URL of a workflow; `channelId` and `apiKey` in its extra are sent along for
    workflows that ask for them.
    """
    from include.connectors.teams import adaptive_card, post_card

    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        log.info("No alert: there is no Airflow connection %r", conn_id)
        return False
    url = connection.password or connection.host
    if not url:
        log.warning("No alert: the Airflow connection %r needs the URL of a Teams workflow as password", conn_id)
        return False
    extras = {name: str(value) for name, value in connection.extra_dejson.items() if name in ("channelId", "apiKey")}
    card = adaptive_card(alert.title, text=alert.body, facts=alert.facts, tone=alert.tone, url=alert.url)
    try:
        post_card(url, card, extras, conn_id=conn_id)
    except ProviderSyncError as error:
        log.warning("The alert could not be delivered to Teams: %s", error)
        return False
    log.info("Sent the alert %r to the Teams channel of connection %r", alert.title, conn_id)
    return True
