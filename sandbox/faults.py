"""Fault injection: rules that say which requests get which fault.

A rule names a fault and selects requests; a criterion that it does not set matches every request::

    {"fault": "status", "status": 429, "retry_after": 2, "service": "titelive", "venue": "…", "page": 3, "times": 2}
    {"fault": "status", "status": 503, "service": "algolia", "call": "browse", "index": "offers", "request": 5}

`page` is the number of the page in the listing; requesting a page again does not change it. Of the requests that a rule
selects, it applies to the `request`-th and the following ones, at most `times` times, each with `probability` (drawn
with the world's seed). With `status`, the service does not carry out the request; with every other fault it does, and
only the response is affected.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Self

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

# The parameters of each fault, in addition to the criteria of `_CRITERIA`; the first one is required.
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
_CRITERIA = {"fault", "service", "venue", "index", "call", "page", "request", "times", "probability"}
ANY_SERVICE = frozenset({"status", "delay", "cut", "truncated_json", "html", "empty_body", "empty_object"})
"""Faults that every service supports: they affect the HTTP response, whatever its content."""

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Rule(BaseModel):
    """A fault and the requests that it applies to. This is the JSON body of `POST /sandbox/faults`."""

    model_config = ConfigDict(extra="forbid")

    fault: str
    """A key of `PARAMETERS`."""
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
    """Share of the records that are corrupted."""
    within: Annotated[int, Field(ge=0)] = 0
    """Number of rows, from the first of the page, that are listed twice; the copy has one more available."""
    across: Annotated[int, Field(ge=0)] = 0
    """Number of rows, from the end of the previous page, that are listed again."""
    missing: Share = 0.5
    """Share of a complete listing that is left out, from its end."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.fault not in PARAMETERS:
            raise ValueError(f"unknown fault {self.fault}; the faults are: {', '.join(PARAMETERS)}")
        allowed = PARAMETERS[self.fault]
        if wrong := self.model_fields_set - _CRITERIA - set(allowed):
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
class _RuleState:
    rule: Rule
    draws: random.Random
    seen: int = 0
    fired: int = 0


class Service(NamedTuple):
    """What a service supports: its faults, the names of its calls, and its kinds of bad records."""

    faults: Collection[str] = ANY_SERVICE
    calls: Collection[str] = ()
    bad_kinds: Collection[str] = ()


class Faults:
    """The rules in force. `services` maps each service's name to what it supports."""

    def __init__(self, seed: int, services: dict[str, Service]) -> None:
        self._seed = seed
        self._services = services
        self._rules: list[_RuleState] = []

    def add(self, rules: list[Rule]) -> None:
        """Put rules in force, all or none.

        Raises:
            ValueError: a rule names an unknown service, call or kind, or a fault that the service does not support.
        """
        for rule in rules:
            self._check(rule)
        for rule in rules:
            number = len(self._rules)
            self._rules.append(_RuleState(rule, random.Random(f"{self._seed}:{number}")))

    def _check(self, rule: Rule) -> None:
        if rule.service is not None and rule.service not in self._services:
            raise ValueError(f"unknown service {rule.service}; the services are: {', '.join(self._services)}")
        services = self._services.values() if rule.service is None else [self._services[rule.service]]
        if not any(rule.fault in service.faults for service in services):
            raise ValueError(f"{rule.service} does not support the fault {rule.fault}")
        calls = [call for service in services for call in service.calls]
        if rule.call is not None and rule.call not in calls:
            raise ValueError(f"unknown call {rule.call}; the calls are: {', '.join(calls) or '-'}")
        known = [kind for service in services for kind in service.bad_kinds]
        if wrong := set(rule.kinds) - set(known):
            raise ValueError(f"unknown kind {', '.join(sorted(wrong))}; the kinds are: {', '.join(known)}")

    def clear(self) -> None:
        """Remove all rules."""
        self._rules.clear()

    def state(self) -> list[dict[str, Any]]:
        """Return each rule with the number of requests that it selected (`seen`) and affected (`fired`)."""
        return [
            {"rule": state.rule.model_dump(exclude_unset=True), "seen": state.seen, "fired": state.fired}
            for state in self._rules
        ]

    def inject(
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
        """Return the rules that apply to this request, keyed by fault, and add them to the request log.

        `possible` restricts the faults to those that this call supports; by default, all of the service's.
        """
        supported = self._services[service].faults if possible is None else possible
        criteria = {"service": service, "venue": venue, "index": index, "call": call}
        active: dict[str, Rule] = {}
        for state in self._rules:
            rule = state.rule
            if any([getattr(rule, name) not in (None, value) for name, value in criteria.items()]):
                continue
            if rule.fault not in supported or (rule.page is not None and rule.page != page()):
                continue
            state.seen += 1
            if state.seen < rule.request or (rule.times is not None and state.fired >= rule.times):
                continue
            if rule.fault not in active and state.draws.random() < rule.probability:
                state.fired += 1
                active[rule.fault] = rule
        request.scope["sandbox.faults"].extend(active)
        return active
