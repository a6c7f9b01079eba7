"""The forms of the DAGs in Airflow's trigger dialogue."""

from __future__ import annotations

from airflow.sdk import Param

USUAL_MINUTES = 30
LONGEST_MINUTES = 1440
"""Of one run that patches a search index."""


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
        "replay_rejected": Param(
            False,
            type="boolean",
            title="Replay rejected records",
            description="Read the rejected records that wait (view rejected_report) instead of the service, after "
            "their payload or the parser was repaired.",
        ),
        "accept_shrunk": Param(
            False,
            type="boolean",
            title="Accept a shrunken listing",
            description="Take a complete listing at its word that lacks more of what we hold than is believable.",
        ),
        "error_limit": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            title="Error limit",
            description="Stop the load when more than so many venue links failed. Empty: catalog_scheme.error_limit.",
        ),
        "release_fields": Param(
            [],
            type="array",
            items={"type": "string"},
            title="Release fields",
            description="Give fields that a person edited back to the provider, one per line: table.id.field such as "
            "stock.123.price, or table.id for all of the row. The view fields_held_back lists them. The next listing "
            "that has the record writes them again, full_refresh at once. For stocks and movies; offers of the stock "
            "API keep what they hold.",
        ),
    }


def venue_link_params() -> dict[str, Param]:
    """Parameters of the DAG that says who feeds which venue; left as they are, they only show it."""
    return {
        "action": Param(
            "show",
            type="string",
            enum=["show", "link", "change", "settings", "activate", "deactivate"],
            values_display={
                "show": "show the links",
                "link": "link a venue to a provider",
                "change": "change the provider, or the id there, of a link",
                "settings": "change the settings of a link",
                "activate": "activate a link",
                "deactivate": "deactivate a link",
            },
            title="Action",
            description="What to do. The log of a run that shows the links has their ids.",
        ),
        "venue": Param(
            None,
            type=["null", "string"],
            title="Venue",
            description="SIRET or id of a venue. To show: its links only.",
        ),
        "link": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Link",
            description="Id of the link to change. Empty: that of the venue, if it has only one to do this with.",
        ),
        "provider": Param(
            None,
            type=["null", "string"],
            title="Provider",
            description="To link and to change: who is to feed the venue, TiteLiveStocks say. After a wrong name the "
            "log lists the right ones.",
        ),
        "id_at_provider": Param(
            None,
            type=["null", "string"],
            title="Id at the provider",
            description="By which the provider knows the venue. Empty: that of provider_pivot for a provider that "
            "needs one, else the SIRET.",
        ),
        "settings": Param(
            None,
            type=["null", "object"],
            title="Settings",
            description="All settings of the link, as a JSON object; the provider says what it knows.",
        ),
    }


def search_params() -> dict[str, Param]:
    """Parameters of a DAG that patches a search index; what is left empty comes from Airflow variables.

    The variable of a parameter is named `<dag_id>_<parameter>`.
    """
    return {
        "dry_run": _choice("Dry run", "Read only: the log shows how often each value comes, and what would change."),
        "dry_run_notify": _choice("Notify of the dry run", "A dry run sends one test alert."),
        "force": Param(
            False, type="boolean", title="Force", description="Patch now, also if the index was not rebuilt."
        ),
        "compare_every": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            title="Compare every",
            description="Compare the whole index with the rule after so many runs without a rebuild; 0: never. Empty: "
            "the variable, and without one by the size of the index (15 for 5,000 records, 1440 for 1,000,000).",
        ),
        "time_limit_minutes": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=LONGEST_MINUTES,
            title="Time limit, in minutes",
            description="A run that takes longer is ended, and the next one takes it up. Empty: the variable, and "
            f"without one {USUAL_MINUTES}.",
        ),
    }


def _choice(title: str, description: str) -> Param:
    """Yes, no, or what the Airflow variable says."""
    return Param(
        None,
        type=["null", "string", "boolean"],  # the form makes a list of it, in which empty is not the same as no
        enum=[None, True, False],
        values_display={"true": "yes", "false": "no", "null": "as the Airflow variable says"},
        title=title,
        description=f"{description} Empty: the Airflow variable says it.",
    )


def outbound_params() -> dict[str, Param]:
    """Parameters of every outbound DAG; left as they are, they send what changed."""
    return {
        "orders": Param(
            [],
            type="array",
            items={"type": "string"},
            title="Orders",
            description="Codes of orders to send now, one per line, changed or not.",
        ),
        "event": Param(
            None,
            type=["null", "string"],
            title="Event",
            description="Slug of the event that the codes are of. Empty: of any.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Send nothing; the log shows what would be sent of these orders (or of the next in the queue), "
            "and which fields would change.",
        ),
        "send_unchanged": Param(
            False,
            type="boolean",
            title="Send unchanged",
            description="Send also what equals what was sent last.",
        ),
        "retry": Param(
            None,
            type=["null", "string"],
            enum=[None, "all", "exceeded", "permanent", "config", "internal", "timeout"],
            values_display={"null": "nothing"},
            title="Retry",
            description="Let those that wait for a person be tried again: all, or of one reason.",
        ),
        "cancel": Param(
            [],
            type="array",
            items={"type": "string"},
            title="Cancel",
            description="Codes of orders to take out of the queue; the log keeps them.",
        ),
        "mappings": Param(
            None,
            type=["null", "array"],
            items={"type": "object"},
            title="Mappings",
            description="New mappings of this target, as JSON. They are checked first, and kept as a new version.",
        ),
        "mappings_version": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Mappings: back to version",
            description="Use an earlier version of the mappings again.",
        ),
        "limit": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Limit",
            description="Stop after so many orders per claimer.",
        ),
    }
