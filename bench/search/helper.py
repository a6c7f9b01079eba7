"""The service's own client and its helpers, as a simple job would use them: browse all, then update what was browsed.

https://www.algolia.com/doc/libraries/sdk/methods/search/browse-objects and
https://www.algolia.com/doc/libraries/sdk/methods/search/partial-update-objects. It is told when to run: it looks into
no log, holds no lock and keeps no account.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from algoliasearch.search.models.browse_params_object import BrowseParamsObject
from algoliasearch.search.models.browse_response import BrowseResponse

from bench.measuring import main
from bench.search.task import ALL, APPLICATION, PATCHING_KEY, SearchTask
from include.patches.customer_dispo import customer_dispo
from sandbox.indexer import connect
from sandbox.offers import INDEX


def prepare(task: SearchTask) -> Callable[[], object]:
    """Nothing is prepared: the work is browsing, updating and waiting. `task.form` says which records are sent."""

    def work() -> None:
        changes: list[dict[str, Any]] = []

        def note(page: BrowseResponse) -> None:
            for hit in page.hits:
                record = hit.model_extra or {}
                values = customer_dispo(record)
                held = record.get("customerDispo", changes)  # a default that equals no value
                if values and (task.form == ALL or values["customerDispo"] != held):
                    changes.append({"objectID": hit.object_id, **values})

        with connect(task.url, APPLICATION, PATCHING_KEY) as client:
            wanted = ["disponibiliteForFO", "nature", "customerDispo"]
            client.browse_objects(INDEX, note, BrowseParamsObject(attributes_to_retrieve=wanted))
            client.partial_update_objects(INDEX, changes, create_if_not_exists=False, wait_for_tasks=True)

    return work


if __name__ == "__main__":
    main(prepare, SearchTask)
