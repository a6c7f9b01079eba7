"""The application: all services, and under `/sandbox` the admin endpoints and the request log."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from sandbox import brevo, teams
from sandbox.algolia import api as algolia_api
from sandbox.faults import Faults, Rule
from sandbox.suppliers import find_suppliers
from sandbox.world import World, format_time, parse_time

_MAX_REQUESTS = 10_000
_SECRETS = {"token", "key", "api_key", "api-key", "x-algolia-api-key", "password", "sig"}
_SECRET_SETTINGS = ("auth", "algolia_keys", "teams_signature", "brevo_key", "allocine_key")


def create_app(world: World) -> FastAPI:
    """Return the application that serves this world."""
    app = FastAPI(title="Sandbox", docs_url=None, redoc_url=None, openapi_url=None)
    suppliers = find_suppliers(world)
    services = {
        **{supplier.service: supplier.faults for supplier in suppliers},
        algolia_api.SERVICE: algolia_api.FAULTS,
        teams.SERVICE: teams.FAULTS,
        brevo.SERVICE: brevo.FAULTS,
    }
    faults = Faults(world.settings.seed, services)
    algolia = algolia_api.Algolia(world)
    channel = teams.Teams(world.settings.teams_signature)
    account = brevo.Brevo(world)
    requests: deque[dict[str, Any]] = deque(maxlen=_MAX_REQUESTS)
    for supplier in suppliers:
        app.include_router(supplier.router(faults))
    app.include_router(algolia_api.router(algolia, faults))
    app.include_router(teams.router(channel, faults))
    app.include_router(brevo.router(account, faults))
    _add_admin(app, world, faults, requests, [algolia.reset, channel.reset, account.reset])
    app.add_middleware(_RequestLog, requests=requests, latency=world.settings.latency_ms / 1000)
    return app


class _Advance(BaseModel):
    model_config = ConfigDict(extra="forbid")

    percent: Annotated[float, Field(gt=0, le=100)] = 1.0
    at: str | None = None


def _add_admin(
    app: FastAPI,
    world: World,
    faults: Faults,
    requests: deque[dict[str, Any]],
    resets: Iterable[Callable[[], None]],
) -> None:
    @app.get("/sandbox/state")
    async def state() -> dict[str, Any]:
        return {
            "settings": {
                name: "***" if name in _SECRET_SETTINGS and value else value
                for name, value in asdict(world.settings).items()
            },
            "venues": world.sirets,
            "generations": [{"at": format_time(each.at), "percent": each.percent} for each in world.generations],
        }

    @app.post("/sandbox/advance")
    async def advance(request: _Advance) -> dict[str, Any]:
        try:
            generation = world.advance(request.percent, parse_time(request.at) if request.at else None)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        return {"generation": len(world.generations) - 1, "at": format_time(generation.at)}

    @app.post("/sandbox/reset")
    async def reset() -> dict[str, Any]:
        for step in (world.reset, faults.clear, requests.clear, *resets):
            step()
        return await state()

    @app.get("/sandbox/faults")
    async def list_faults() -> list[dict[str, Any]]:
        return faults.state()

    @app.post("/sandbox/faults")
    async def add_faults(rules: list[Rule]) -> list[dict[str, Any]]:
        try:
            faults.add(rules)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        return faults.state()

    @app.delete("/sandbox/faults")
    async def clear_faults() -> list[dict[str, Any]]:
        faults.clear()
        return faults.state()

    @app.get("/sandbox/requests")
    async def list_requests() -> list[dict[str, Any]]:
        return list(requests)

    @app.delete("/sandbox/requests")
    async def clear_requests() -> list[dict[str, Any]]:
        requests.clear()
        return []


class _RequestLog:
    """Middleware that logs the last requests to the services and adds the configured latency (seconds)."""

    def __init__(self, app: ASGIApp, requests: deque[dict[str, Any]], latency: float) -> None:
        self._app, self._requests, self._latency = app, requests, latency

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/sandbox/"):
            await self._app(scope, receive, send)
            return
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        entry: dict[str, Any] = {
            "at": time.time(),
            "method": scope["method"],
            "path": scope["path"],
            "query": {key: "***" if key.lower() in _SECRETS else value for key, value in query},
            "status": None,
            "faults": [],
        }
        scope["sandbox.faults"] = entry["faults"]
        self._requests.append(entry)

        async def log_status(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
            await send(message)

        if self._latency:
            await asyncio.sleep(self._latency)
        await self._app(scope, receive, log_status)
