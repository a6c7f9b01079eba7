"""The service's own client and its helpers, as a simple job would use them: browse everything, then update.

https://www.algolia.com/doc/libraries/sdk/methods/search/browse-objects and
https://www.algolia.com/doc/libraries/sdk/methods/search/partial-update-objects. The harness decides when the job runs:
it reads no log, takes no lock and stores no checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from algoliasearch.search.models.browse_params_object import BrowseParamsObject
from algoliasearch.search.models.browse_response import BrowseResponse

from bench.measuring import Task, main
from bench.search import APPLICATION, PATCHING_KEY
from include.patches.customer_dispo import customer_dispo
from sandbox.indexer import connect
from sandbox.offers import INDEX


def prepare(task: Task) -> Callable[[], object]:
    """Prepare nothing; the work is browsing, updating what differs, and waiting."""

    def work() -> None:
        changes: list[dict[str, Any]] = []

        def add(page: BrowseResponse) -> None:
            for hit in page.hits:
                record = hit.model_extra or {}
                values = customer_dispo(record)
                current = record.get("customerDispo", changes)  # a default that equals no value
                if values and values["customerDispo"] != current:
                    changes.append({"objectID": hit.object_id, **values})

        with connect(task.url, APPLICATION, PATCHING_KEY) as client:
            attributes = ["disponibiliteForFO", "nature", "customerDispo"]
            client.browse_objects(INDEX, add, BrowseParamsObject(attributes_to_retrieve=attributes))
            client.partial_update_objects(INDEX, changes, create_if_not_exists=False, wait_for_tasks=True)

    return work


if __name__ == "__main__":
    main(prepare)
