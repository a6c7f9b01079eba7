"""The stand-ins of inbound suppliers: one module per service, found by the application without being named.

A module offers `suppliers(world)`, which returns the suppliers that it has. All the rest is its own affair. This is one
that lists events by cursor, can be told to fail, and sends bad records when asked::

    from collections.abc import Sequence
    from typing import Any

    from fastapi import APIRouter, Request, Response

    from sandbox import bad_records
    from sandbox.answers import Answer, check_access, refusal, send
    from sandbox.demo import venue as demo_venue
    from sandbox.faults import ANY_SERVICE, Faults, Service
    from sandbox.suppliers import OWN_VENUES, Link, Supplier
    from sandbox.world import World, salt, scatter

    SERVICE = "billets"
    KINDS = bad_records.kinds("id", "title")
    MISHAPS = Service(ANY_SERVICE | {"bad_records", "empty_page"}, bad_kinds=KINDS)


    def events(world: World) -> list[dict[str, Any]]:
        by = salt(world.settings.seed, SERVICE)
        last = len(world.generations) - 1  # /sandbox/advance adds one: what depends on it moves on
        return [{"id": f"E{n:04d}", "title": f"Concert {n}", "places": scatter(n + last, by) % 200} for n in range(50)]


    def suppliers(world: World) -> Sequence[Supplier]:
        def router(faults: Faults) -> APIRouter:
            routes = APIRouter()

            @routes.get(f"/{SERVICE}/events")
            async def list_events(request: Request, venue: str, after: str = "", limit: int = 20) -> Response:
                check_access(request, SERVICE, world.credentials)
                fired = faults.fire(request, SERVICE, venue=venue)
                page = [event for event in events(world) if event["id"] > after][:limit]
                if "empty_page" in fired:
                    page = []
                rows = bad_records.render(world.settings.seed, page, lambda event: event["id"], fired, KINDS)
                return await send(refusal(fired) or Answer(b'{"events":[%b]}' % b",".join(rows)), fired)

            return routes

        link = Link(demo_venue(OWN_VENUES, "Salle des Brumes", "35"), id_at_provider="hall-1")
        return [Supplier(SERVICE, "Billets", MISHAPS, router, [link])]

Rules such as `{"fault": "status", "status": 503, "service": "billets"}` then strike it; `faults.PARAMETERS` has all.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter

from sandbox.faults import Faults, Service
from sandbox.world import World

OWN_VENUES = 95_000
"""From this number on, `demo.venue` is free for venues of a new supplier."""


@dataclass(frozen=True)
class Link:
    """A venue of the demo that gets something from a supplier."""

    venue: Mapping[str, Any]
    """Row of the table `venue`; two suppliers may name the same one, told by its SIRET."""
    id_at_provider: str
    """What the supplier calls the venue: `venue_id_at_offer_provider` of the link."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What a person decided for this link: `settings` of the link."""
    internal_id: str | None = None
    """The other id that the supplier has for the venue. With it, both stand in `provider_pivot`."""


@dataclass(frozen=True)
class Supplier:
    """A service that a provider class of the project asks."""

    service: str
    """By which fault rules and the setting `auth` name it."""
    provider: str
    """Name of the provider class. There need not be one: then nothing is linked."""
    mishaps: Service
    router: Callable[[Faults], APIRouter]
    links: Sequence[Link] = ()


def find_suppliers(world: World) -> list[Supplier]:
    """Return what the modules of this package offer, by the modules' names."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return [supplier for module in modules for supplier in module.suppliers(world)]
