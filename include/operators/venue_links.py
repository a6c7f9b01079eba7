"""The operator that shows and changes venue links, as the DAG run's form specifies."""

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
    """Show, create or change venue links, as the parameters of the DAG run specify."""

    ui_color = "#fef9c3"

    def __init__(self, *, conn_id: str = SYNC_DB, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the requested action, log the result with the next step, and return both."""
        params = vars(read_params(context, VenueLinkParams))
        given = {name: value for name, value in params.items() if value is not None}
        if given["action"] == SHOW:
            emit_events(self, context, {})
            return self._show(given)
        from include.venue_links import LinkRequest, perform

        with database(self.conn_id) as connection:
            result = perform(connection, connector_for, LinkRequest(**given))
        log_links([result.link])
        log.info("%s. Next: %s", result.message, _next_step(result, Path(context["dag"].fileloc).parent))
        counts: dict[str, Any] = {"offers": result.offers_taken_over, "stocks": result.stocks_taken_over}
        emit_events(self, context, {"offer": counts, "stock": counts} if any(counts.values()) else {})
        return {"link": result.link.id, "message": result.message, **counts}

    def _show(self, given: dict[str, Any]) -> dict[str, Any]:
        from include.venue_links import describe_links

        if extra := sorted(given.keys() - {"action", "venue"}):
            raise ConfigurationError(f"To show links, leave out: {', '.join(extra)}; or choose another action")
        with database(self.conn_id) as connection:
            links, count = describe_links(connection, venue=given.get("venue"))
        if links:
            log_links(links)
        else:
            log.info("There is no venue link: trigger this DAG with the action link, a venue and a provider")
        if count > len(links):
            log.info("%s more links are not shown: enter a venue to see its links", f"{count - len(links):,}")
        return {"links": count}


def _next_step(result: LinkResult, folder: Path) -> str:
    """Return which DAG of the folder reads the link next, as words."""
    if not result.link.is_active:
        return "nothing, until the action activate"
    names = _dags_of(result.link.provider, folder)
    if not names:
        return f"run {result.link.provider} for venue link {result.link.id}; no DAG of the project does"
    return f'trigger {" or ".join(names)} with venue_links ["{result.link.id}"], or wait for its schedule'


def _dags_of(row_name: str, folder: Path) -> list[str]:
    """Return the DAGs whose file contains the dotted path of a provider; file and DAG have the same name."""
    from include.providers import provider_classes

    paths = [f'"{each.__module__}.{each.__qualname__}"' for each in provider_classes() if each.row_name() == row_name]
    texts = {file.stem: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.py"))}
    return [name for name, text in texts.items() if any([path in text for path in paths])]
