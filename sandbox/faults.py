"""Faults on request: which of them befalls a request.

A rule names a fault and the requests that it watches (all that it leaves open match)::

    {"fault": "status", "status": 429, "retry_after": 2, "service": "titelive", "venue": "…", "page": 3, "times": 2}
    {"fault": "status", "status": 503, "service": "algolia", "call": "browse", "index": "offers", "request": 5}

`page` is the page of the listing, also when it is asked for again. Of the requests it watches, a rule strikes from the
`request`-th on, `times` times, each with `probability` (drawn with the world's seed). With `status` nothing is done of
what was asked for; with the other faults all is, whatever becomes of the answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Self

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

# What a rule may say beside whom it watches; the first is necessary.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "status": ("status", "retry_after", "as_date"),
    "delay": ("seconds",),
    "cut": (),
    "truncated_json": (),
    "html": (),
    "empty_body": (),
    "empty_object": (),
    "empty_page": (),
    "repeat_page": (),
    "bad_records": ("kinds", "share"),
    "duplicates": ("within", "across"),
    "shrunk_listing": ("missing",),
    "truncated_image": (),
    "image_bomb": (),
}
_ALL_OPTIONAL = {"duplicates", "shrunk_listing"}
_WATCHED = {"fault", "service", "venue", "index", "call", "page", "request", "times", "probability"}
ANY_SERVICE = frozenset({"status", "delay", "cut", "truncated_json", "html", "empty_body", "empty_object"})
"""The faults that befall any answer."""

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Rule(BaseModel):
    """One fault, and when."""

    model_config = ConfigDict(extra="forbid")

    fault: Literal[
        "status",
        "delay",
        "cut",
        "truncated_json",
        "html",
        "empty_body",
        "empty_object",
        "empty_page",
        "repeat_page",
        "bad_records",
        "duplicates",
        "shrunk_listing",
        "truncated_image",
        "image_bomb",
    ]
    service: str | None = None
    venue: str | None = None
    index: str | None = None
    call: str | None = None
    page: Positive | None = None
    request: Positive = 1
    times: Positive | None = None
    probability: Share = 1.0
    status: Annotated[int, Field(ge=400, le=599)] = 500
    retry_after: Annotated[int, Field(ge=0)] | None = None
    """Seconds, sent as `Retry-After`."""
    as_date: bool = False
    """Whether `Retry-After` is a date instead."""
    seconds: Annotated[float, Field(ge=0)] = 0
    kinds: list[str] = []
    share: Share = 1.0
    """Share of the rows that are spoilt."""
    within: Annotated[int, Field(ge=0)] = 0
    """So many first rows of the page are listed twice, the second time with one more available."""
    across: Annotated[int, Field(ge=0)] = 0
    """So many last rows of the page before are listed again."""
    missing: Share = 0.5
    """Share of a complete listing that it lacks: its last records."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        allowed = PARAMETERS[self.fault]
        if wrong := self.model_fields_set - _WATCHED - set(allowed):
            raise ValueError(
                f"{', '.join(sorted(wrong))} not for {self.fault}, which takes {', '.join(allowed) or '-'}"
            )
        if self.fault == "duplicates" and not (self.within or self.across):
            raise ValueError("duplicates needs within or across")
        if self.fault not in _ALL_OPTIONAL and allowed and allowed[0] not in self.model_fields_set:
            raise ValueError(f"{self.fault} needs {allowed[0]}")
        if self.fault == "bad_records" and not self.kinds:
            raise ValueError("kinds is empty")
        return self


@dataclass
class _Active:
    rule: Rule
    draws: random.Random
    seen: int = 0
    fired: int = 0


class Service(NamedTuple):
    """What can befall a service: its faults, the names of its calls, and the kinds of bad records that it can send."""

    faults: Collection[str] = ANY_SERVICE
    calls: Collection[str] = ()
    bad_kinds: Collection[str] = ()


class Faults:
    """The rules in force, for services by name."""

    def __init__(self, seed: int, services: dict[str, Service]) -> None:
        self._seed = seed
        self._services = services
        self._active: list[_Active] = []

    def add(self, rules: list[Rule]) -> None:
        """Put rules in force, all or none; ValueError if one names what there is not."""
        for rule in rules:
            self._check(rule)
        for rule in rules:
            number = len(self._active)
            self._active.append(_Active(rule, random.Random(f"{self._seed}:{number}")))

    def _check(self, rule: Rule) -> None:
        if rule.service is not None and rule.service not in self._services:
            raise ValueError(f"no service {rule.service}; there is {', '.join(self._services)}")
        services = self._services.values() if rule.service is None else [self._services[rule.service]]
        if not any(rule.fault in service.faults for service in services):
            raise ValueError(f"no fault {rule.fault} of {rule.service}")
        calls = [call for service in services for call in service.calls]
        if rule.call is not None and rule.call not in calls:
            raise ValueError(f"no call {rule.call}; there is {', '.join(calls) or '-'}")
        known = [kind for service in services for kind in service.bad_kinds]
        if wrong := set(rule.kinds) - set(known):
            raise ValueError(f"no kind {', '.join(sorted(wrong))}; there is {', '.join(known)}")

    def clear(self) -> None:
        """Let everything go well again."""
        self._active.clear()

    def state(self) -> list[dict[str, Any]]:
        """Return the rules, with how many requests each has seen and how often it struck."""
        return [
            {"rule": active.rule.model_dump(exclude_unset=True), "seen": active.seen, "fired": active.fired}
            for active in self._active
        ]

    def fire(
        self,
        request: Request,
        service: str,
        *,
        venue: str | None = None,
        index: str | None = None,
        call: str | None = None,
        page: Callable[[], int | None] = lambda: None,
        possible: Collection[str] | None = None,
    ) -> dict[str, Rule]:
        """Return the rules that strike this request, by fault, and note them in the log of requests.

        `possible` are the faults that can befall this call, if not all of the service's can.
        """
        known = self._services[service].faults if possible is None else possible
        asked = {"service": service, "venue": venue, "index": index, "call": call}
        fired: dict[str, Rule] = {}
        for active in self._active:
            rule = active.rule
            if any([getattr(rule, name) not in (None, value) for name, value in asked.items()]):
                continue
            if rule.fault not in known or (rule.page is not None and rule.page != page()):
                continue
            active.seen += 1
            if active.seen < rule.request or (rule.times is not None and active.fired >= rule.times):
                continue
            if rule.fault not in fired and active.draws.random() < rule.probability:
                active.fired += 1
                fired[rule.fault] = rule
        request.scope["sandbox.faults"].extend(fired)
        return fired
