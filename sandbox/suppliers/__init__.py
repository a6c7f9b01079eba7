"""Stand-ins for inbound suppliers. The application discovers the modules of this package by itself.

A module defines `suppliers(world)`, which returns the suppliers that it serves. Modules named `corrupt_*` hold the bad
records of a listing and serve nothing. This example lists events by cursor and supports faults and bad records::

    from collections.abc import Sequence
    from typing import Any

    from fastapi import APIRouter, Request, Response

    from sandbox.demo import venue as demo_venue
    from sandbox.faults import ANY_SERVICE, Faults, Service
    from sandbox.responses import PlannedResponse, check_access, error_response, send
    from sandbox.suppliers import OWN_VENUES, Link, Supplier, corrupt_records
    from sandbox.world import World, salt, scatter

    SERVICE = "billets"
    KINDS = corrupt_records.kinds("id", "title")
    FAULTS = Service(ANY_SERVICE | {"bad_records", "empty_page"}, bad_kinds=KINDS)


    def events(world: World) -> list[dict[str, Any]]:
        by = salt(world.settings.seed, SERVICE)
        last = len(world.generations) - 1  # /sandbox/advance adds one, which changes the data
        return [{"id": f"E{n:04d}", "title": f"Concert {n}", "places": scatter(n + last, by) % 200} for n in range(50)]


    def suppliers(world: World) -> Sequence[Supplier]:
        def router(faults: Faults) -> APIRouter:
            routes = APIRouter()

            @routes.get(f"/{SERVICE}/events")
            async def list_events(request: Request, venue: str, after: str = "", limit: int = 20) -> Response:
                check_access(request, SERVICE, world.credentials)
                active = faults.inject(request, SERVICE, venue=venue)
                page = [event for event in events(world) if event["id"] > after][:limit]
                if "empty_page" in active:
                    page = []
                rows = corrupt_records.render(world.settings.seed, page, lambda event: event["id"], active, KINDS)
                planned = PlannedResponse(b'{"events":[%b]}' % b",".join(rows))
                return await send(error_response(active) or planned, active)

            return routes

        link = Link(demo_venue(OWN_VENUES, "Salle des Brumes", "35"), id_at_provider="hall-1")
        return [Supplier(SERVICE, "Billets", FAULTS, router, [link])]

A rule such as `{"fault": "status", "status": 503, "service": "billets"}` then makes it fail; `faults.PARAMETERS` lists
all faults.
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
"""First venue number that is free for new suppliers; pass numbers from here on to `demo.venue`."""


@dataclass(frozen=True)
class Link:
    """A demo venue that is linked to a supplier."""

    venue: Mapping[str, Any]
    """Row of the table `venue`. Its SIRET identifies it, so several suppliers may link the same venue."""
    id_at_provider: str
    """The venue's id at the supplier: `venue_provider.venue_id_at_offer_provider`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Configuration of this link: `venue_provider.settings`."""
    internal_id: str | None = None
    """The supplier's second id for the venue, if it has one. Both ids are then stored in `provider_pivot`."""


@dataclass(frozen=True)
class Supplier:
    """A stand-in for the service that a provider class reads from."""

    service: str
    """Its name in fault rules and in the setting `auth`."""
    provider: str
    """Name of the provider class. If the project has no such class, no venue is linked."""
    faults: Service
    """What the service supports in fault rules."""
    router: Callable[[Faults], APIRouter]
    links: Sequence[Link] = ()


def find_suppliers(world: World) -> list[Supplier]:
    """Return the suppliers of all modules of this package, in the order of the modules' names."""
    names = [found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("corrupt_")]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return [supplier for module in modules for supplier in module.suppliers(world)]
