"""Which DAGs are paused when `make up` starts. What the user chooses in the web UI later is kept."""

from __future__ import annotations

import json
from collections.abc import Collection

from local.airflow import Api
from local.checkout import Checkout, write_private


def unpause_new(checkout: Checkout, api: Api, live: Collection[str]) -> None:
    """Unpause the DAGs that this checkout runs for the first time, except the live ones."""
    seen = _seen(checkout)
    dags = api.dags()
    for dag_id in checkout.dag_ids():
        if dag_id not in live and dag_id not in seen and dags[dag_id]["is_paused"]:
            api.set_paused(dag_id, False)
    _save_seen(checkout, seen | (set(checkout.dag_ids()) - set(live)))


def pause_live(checkout: Checkout, api: Api, live: Collection[str]) -> None:
    """Pause the DAGs that are live for the first time."""
    seen, dags = _seen(checkout), api.dags()
    new = [dag_id for dag_id in live if _live_entry(dag_id) not in seen]
    for dag_id in new:
        if dag_id in dags and not dags[dag_id]["is_paused"]:
            api.set_paused(dag_id, True)
    if new:
        _save_seen(checkout, seen | set(map(_live_entry, new)))


def _live_entry(dag_id: str) -> str:
    return f"{dag_id} for real"


def _seen(checkout: Checkout) -> set[str]:
    file = checkout.state / "dags-seen.json"
    return set(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else set()


def _save_seen(checkout: Checkout, seen: set[str]) -> None:
    write_private(checkout.state / "dags-seen.json", json.dumps(sorted(seen)))
