"""A stand-in for the register: `GET /example_register/films?take=40&skip=0`."""

from fastapi import APIRouter, Request
from sandbox.answers import Answer, check_access, refusal, send

from sandbox import bad_records
from sandbox.faults import ANY_SERVICE, Service
from sandbox.suppliers import Supplier
from sandbox.world import format_time, salt, scatter

SERVICE = "example_register"
KINDS = bad_records.kinds("id", "title", "minutes", "modified")
MISHAPS = Service(ANY_SERVICE | {"bad_records"}, bad_kinds=KINDS)
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
            fired = faults.fire(request, SERVICE)
            listed = list(films(world))
            page = listed[skip : skip + take]
            rows = bad_records.render(world.settings.seed, page, lambda film: film["id"], fired, KINDS)
            body = b'{"total":%d,"films":[%b]}' % (len(listed), b",".join(rows))
            return await send(refusal(fired) or Answer(body), fired)

        return routes

    return [Supplier(SERVICE, "ExampleRegister", MISHAPS, router)]
