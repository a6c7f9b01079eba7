"""Says who feeds which venue, as the DAG run's form asks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from include.errors import ConfigurationError
from include.operators.assets import emit_events
from include.operators.connections import SYNC_DB, connector_for, database
from include.operators.params import VenueLinkParams, read_params
from include.operators.step_log import log_links

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.venue_links import LinkResult

log = logging.getLogger(__name__)

SHOW = "show"


class VenueLinkOperator(BaseOperator):
    """Show, make or change venue links; returns what was done. The DAG run's parameters say what."""

    ui_color = "#fef9c3"

    def __init__(self, *, conn_id: str = SYNC_DB, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Do what is asked, and log the links or the outcome with the next step."""
        given = vars(read_params(context, VenueLinkParams))
        asked = {name: value for name, value in given.items() if value is not None}
        if asked["action"] == SHOW:
            emit_events(self, context, {})
            return self._show(asked)
        from include.venue_links import LinkRequest, perform

        with database(self.conn_id) as connection:
            outcome = perform(connection, connector_for, LinkRequest(**asked))
        log_links([outcome.link])
        log.info("%s. Next: %s", outcome.told, _next_step(outcome, Path(context["dag"].fileloc).parent))
        counts: dict[str, Any] = {"offers": outcome.offers_taken_over, "stocks": outcome.stocks_taken_over}
        emit_events(self, context, {"offer": counts, "stock": counts} if any(counts.values()) else {})
        return {"link": outcome.link.id, "told": outcome.told, **counts}

    def _show(self, asked: dict[str, Any]) -> dict[str, Any]:
        from include.venue_links import describe_links

        if extra := sorted(asked.keys() - {"action", "venue"}):
            raise ConfigurationError(f"To show links, leave out: {', '.join(extra)}; or choose another action")
        with database(self.conn_id) as connection:
            links, count = describe_links(connection, venue=asked.get("venue"))
        if links:
            log_links(links)
        else:
            log.info("There is no venue link: trigger this DAG with the action link, a venue and a provider")
        if count > len(links):
            log.info("And %s more: give a venue to see its links", f"{count - len(links):,}")
        return {"links": count}


def _next_step(outcome: LinkResult, folder: Path) -> str:
    """Which DAG of the folder reads the link next."""
    if not outcome.link.is_active:
        return "nothing, until the action activate"
    names = _dags_of(outcome.link.provider, folder)
    if not names:
        return f"run {outcome.link.provider} for venue link {outcome.link.id}; no DAG of the project does"
    return f'trigger {" or ".join(names)} with venue_links ["{outcome.link.id}"], or wait for its schedule'


def _dags_of(row_name: str, folder: Path) -> list[str]:
    """The DAG files, which are called like their DAGs, that name a provider's class by its dotted path."""
    from include.providers import provider_classes

    paths = [f'"{each.__module__}.{each.__qualname__}"' for each in provider_classes() if each.row_name() == row_name]
    texts = {file.stem: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.py"))}
    return [name for name, text in texts.items() if any([path in text for path in paths])]
