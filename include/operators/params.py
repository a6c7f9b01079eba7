"""The form of an inbound DAG in Airflow's trigger dialogue."""

from __future__ import annotations

from airflow.sdk import Param


def sync_params() -> dict[str, Param]:
    """Parameters of every inbound DAG; left as they are, they make the daily run."""
    return {
        "venue_links": Param(
            [],
            type="array",
            items={"type": "string"},
            title="Venue links",
            description="Ids of venue_provider rows or SIRETs, one per line. Empty: all active links.",
        ),
        "full_refresh": Param(
            False, type="boolean", title="Full refresh", description="Read everything, not only what changed."
        ),
        "limit": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Limit",
            description="Stop after so many records per venue link. The next run then still reads what this one left.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Write nothing; the log shows what would be created and updated.",
        ),
        "chunk_size": Param(
            1000, type="integer", minimum=1, maximum=10_000, title="Chunk size", description="Objects per transaction."
        ),
    }
