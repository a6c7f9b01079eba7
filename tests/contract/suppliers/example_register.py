"""A stand-in for the register: `GET /example_register/films?take=40&skip=0`."""

from fastapi import APIRouter, Request

from sandbox.faults import ANY_SERVICE, Service
from sandbox.responses import PlannedResponse, check_access, error_response, send
from sandbox.suppliers import Supplier, corrupt_records
from sandbox.world import format_time, salt, scatter

SERVICE = "example_register"
KINDS = corrupt_records.kinds("id", "title", "minutes", "modified")
FAULTS = Service(ANY_SERVICE | {"bad_records"}, bad_kinds=KINDS)
FILMS = 160


def films(world):
    """Return what the register lists now."""
    by = salt(world.settings.seed, SERVICE)
    for number in range(FILMS):
        changed = number * len(world.generations) // FILMS  # another share of them with each /sandbox/advance
        yield {
            "id": f"F{number:04d}",
            "title": f"Film {number}",
            "minutes": 60 + (scatter(number, by) + changed) % 90,
            "modified": format_time(world.generations[changed].at),
        }


def suppliers(world):
    def router(faults):
        routes = APIRouter()

        @routes.get(f"/{SERVICE}/films")
        async def list_films(request: Request, skip: int = 0, take: int = 40):
            check_access(request, SERVICE, world.credentials)
            active = faults.inject(request, SERVICE)
            listed = list(films(world))
            page = listed[skip : skip + take]
            rows = corrupt_records.render(world.settings.seed, page, lambda film: film["id"], active, KINDS)
            body = b'{"total":%d,"films":[%b]}' % (len(listed), b",".join(rows))
            return await send(error_response(active) or PlannedResponse(body), active)

        return routes

    return [Supplier(SERVICE, "ExampleRegister", FAULTS, router)]
