"""Parameters of the DAGs. Each is defined once, with its form text, its JSON schema and its Python type.

`sync_params()` and similar functions return the trigger forms. `read_params()` returns the validated and converted
parameters of a run, whether it was created by form, REST, command line or backfill.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import Param, Variable
from airflow.sdk.exceptions import ParamValidationError

from include.errors import ConfigurationError
from include.operators.runs import has_type
from include.operators.unknown_params import unknown_params
from include.texts import shortened

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.store.ledger import LoadParameters

USUAL_MINUTES = 30
MAX_MINUTES = 1440
"""Default and maximum time limit of a run that patches a search index."""

INT4 = 2**31 - 1
INT8 = 2**63 - 1
"""Maximum values of PostgreSQL's integer and bigint. Airflow cannot pass larger numbers to a task either."""
MAX_RECORDS = 1_000_000_000
MAX_ITEMS = 10_000
"""Maximum length of a list of venues or orders."""
MAX_SHOWN_LENGTH = 200
"""Maximum length of an invalid value in an error message."""

STORABLE = r"^[^\u0000\ud800-\udfff]*$"
"""Pattern of text that PostgreSQL can store."""

YES, NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
"""Accepted values of an Airflow variable for a switch."""

MAIN_SECTION = "Run Parameters"
"""Section of the most frequent parameters. Airflow expands the section of this name; the others start folded."""

PROVIDERS = Path(__file__).parents[1] / "providers"

Form = TypeVar("Form")


# Kinds of parameters. In every form, null means the default.


def _parameter(
    default: Any,
    read: Callable[[Any], Any],
    description: str,
    schema: dict[str, Any],
    *,
    title: str = "",
    section: str = MAIN_SECTION,
) -> Any:
    """Return the field of a form.

    :param read: converts a validated value.
    :param schema: JSON schema; callables in it are called by the form.
    :param title: empty = the name of the parameter.
    """
    shown = list(default) if isinstance(default, tuple) else default
    schema = {**schema, "section": section} | ({"title": title} if title else {})
    return field(default=default, metadata={"shown": shown, "description": description, "schema": schema, "read": read})


def _switch(description: str, **place: str) -> Any:
    return _parameter(False, bool, description, {"type": ["null", "boolean"]}, **place)


def _yes_or_no(description: str, **place: str) -> Any:
    """A switch that an Airflow variable sets if the form leaves it empty."""
    schema = {
        "type": ["null", "string", "boolean"],  # "string" makes the form show a list, which may be empty
        "enum": [None, True, False],
        "values_display": {"true": "yes", "false": "no", "null": "as the Airflow variable says"},
    }
    return _parameter(None, bool, f"{description} Empty = the value of the Airflow variable.", schema, **place)


def _number(description: str, *, minimum: int, maximum: int, default: int | None = None, **place: str) -> Any:
    schema = {"type": ["null", "integer"], "minimum": minimum, "maximum": maximum}
    return _parameter(default, int, description, schema, **place)


def _text(description: str, *, longest: int, **place: str) -> Any:
    schema = {"type": ["null", "string"], "maxLength": longest, "pattern": STORABLE}
    return _parameter(None, lambda value: value.strip() or None, description, schema, **place)


def _choice(description: str, schema: dict[str, Any], **place: str) -> Any:
    return _parameter(None, str, description, {"type": ["null", "string"], **schema}, **place)


def _lines(description: str, *, longest: int, numbers: bool = False, **place: str) -> Any:
    """A list of texts, one per line. With `numbers`, JSON may also have numbers, such as ids."""
    text: dict[str, Any] = {"type": "string", "maxLength": longest, "pattern": STORABLE}
    items = {"anyOf": [text, {"type": "integer", "minimum": 1, "maximum": INT8}]} if numbers else text
    schema = {"type": ["null", "array"], "items": items, "maxItems": MAX_ITEMS}
    return _parameter((), _read_lines, description, schema, **place)


def _read_lines(values: Iterable[Any]) -> tuple[str, ...]:
    texts = ((value if isinstance(value, str) else str(int(value))).strip() for value in values)
    return tuple(text for text in texts if text)


def _document(description: str, schema: dict[str, Any], **place: str) -> Any:
    """A JSON document. The engine validates its content; the schema limits its size and its numbers."""
    return _parameter(None, lambda value: value, description, schema, **place)


def _json(depth: int) -> dict[str, Any]:
    """Return the schema of any JSON value up to this depth, of a size that a person might write."""
    schema: dict[str, Any] = {
        "type": ["null", "boolean", "number", "string"],
        "minimum": -(2**63),
        "maximum": INT8,
        "maxLength": 20_000,
        "pattern": STORABLE,
    }
    if depth:
        schema["type"] += ["array", "object"]
        schema |= {"maxItems": 1000, "items": _json(depth - 1), **_members(depth - 1)}
    return schema


def _members(depth: int) -> dict[str, Any]:
    """Return the schema of the members of an object, with values up to this depth."""
    names = {"maxLength": 200, "pattern": STORABLE}
    return {"maxProperties": 1000, "propertyNames": names, "additionalProperties": _json(depth)}


@cache
def provider_names() -> tuple[str, ...]:
    """Return the providers that venues can be linked to, by the `local_class` of their row.

    They are read from the source code, because parsing a DAG file must not import the providers.
    """
    modules = [ast.parse(file.read_text(encoding="utf-8")) for file in sorted(PROVIDERS.glob("*.py"))]
    classes = {node.name: node for module in modules for node in module.body if isinstance(node, ast.ClassDef)}
    found = {name: _constants(name, classes) for name in classes}
    usable = {name: values for name, values in found.items() if {"name", "can_create"} <= values.keys()}
    linked = [values.get("local_class") or name for name, values in usable.items() if values.get("needs_venue", True)]
    return tuple(dict.fromkeys(map(str, linked)))


def _constants(name: str, classes: Mapping[str, ast.ClassDef], below: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the own and inherited attributes of a class that are set to a constant."""
    if name not in classes or name in below:
        return {}
    found: dict[str, Any] = {}
    for base in reversed(classes[name].bases):
        found |= _constants(base.id, classes, below | {name}) if isinstance(base, ast.Name) else {}
    for each in classes[name].body:
        if isinstance(each, (ast.Assign, ast.AnnAssign)) and isinstance(each.value, ast.Constant):
            targets = each.targets if isinstance(each, ast.Assign) else [each.target]
            found |= {target.id: each.value.value for target in targets if isinstance(target, ast.Name)}
    return found


# The forms


@dataclass(frozen=True, kw_only=True)
class SyncParams:
    """Parameters of an inbound DAG. The defaults are those of the daily run."""

    venue_links: tuple[str, ...] = _lines(
        "SIRET or link id, one per line; empty = all active venues. `make status` and the DAG venue_links list them.",
        title="Venues",
        longest=40,
        numbers=True,
    )
    full_refresh: bool = _switch("Read everything, not only what changed since the last run.")
    limit: int | None = _number(
        "Stop after this many records per venue; empty = read all. The next run reads the remaining ones.",
        minimum=1,
        maximum=MAX_RECORDS,
    )
    dry_run: bool = _switch("Write nothing. The log shows what would be created and updated.", section="How")
    chunk_size: int = _number(
        "Number of objects saved in one transaction. The default suits almost every run.",
        section="How",
        minimum=1,
        maximum=10_000,
        default=1000,
    )
    error_limit: int | None = _number(
        "Stop when more than this many venues have failed. Empty = the default limit of this provider, if it has one.",
        section="How",
        minimum=0,
        maximum=1_000_000,
    )
    replay_rejected: bool = _switch(
        "Read the rejected records that are not resolved yet, instead of the service. Use it after repairing them or "
        "the parser; `make problems` lists them.",
        title="Replay rejected records",
        section="Repair",
    )
    accept_shrunk: bool = _switch(
        "Accept a complete listing even if it lacks much of what the venue had before. First check on the provider's "
        "site that this is correct.",
        title="Accept a shrunken listing",
        section="Repair",
    )
    release_fields: tuple[str, ...] = _lines(
        "Remove manual overrides, so that the provider writes these fields again. One per line: stock.123.price, or "
        "stock.123 for all fields of that stock. `SELECT * FROM fields_held_back` lists them. The next listing that "
        "has the record writes them; with full refresh, this run. For stocks and movies; existing offers of the stock "
        "APIs are never updated.",
        section="Repair",
        longest=100,
    )


@dataclass(frozen=True, kw_only=True)
class VenueLinkParams:
    """Parameters of the DAG for venue links. The defaults only show the links."""

    action: str = _parameter(
        "show",
        str,
        "What to do. A run with the action show lists the links and their ids in its log.",
        {
            "type": "string",
            "enum": ["show", "link", "change", "settings", "activate", "deactivate"],
            "values_display": {
                "show": "show the links",
                "link": "link a venue to a provider",
                "change": "change the provider, or the id there, of a link",
                "settings": "change the settings of a link",
                "activate": "activate a link",
                "deactivate": "deactivate a link",
            },
        },
    )
    venue: str | None = _text(
        "SIRET or id of a venue. With show: only the links of this venue. The log of show lists both.", longest=40
    )
    link: int | None = _number(
        "Id of the link to change, from the log of show or `make status`. Empty = the only link of the venue.",
        minimum=1,
        maximum=INT8,
    )
    provider: str | None = _choice(
        "The provider that supplies the venue, for the actions link and change.",
        {"enum": lambda: [None, *provider_names()], "values_display": {"null": "none"}},
    )
    id_at_provider: str | None = _text(
        "Id of the venue at the provider. Empty = the venue's SIRET, or the id that is registered for the venue at a "
        "provider with ids of its own, such as Allociné.",
        title="Id at the provider",
        section="Details of the link",
        longest=70,
    )
    settings: dict[str, Any] | None = _document(  # noqa: RUF009 - it gives a field
        'All settings of the link, as a JSON object. For a cinema: {"prices": [{"price": 9.5}], "is_duo": true, '
        '"quantity": 80}. Bookshops have none.',
        {"type": ["null", "object"], **_members(3)},
        section="Details of the link",
    )


@dataclass(frozen=True, kw_only=True)
class SearchParams:
    """Parameters of a DAG that patches a search index.

    Parameters in `VARIABLES` that a run leaves empty come from the Airflow variable `<dag_id>_<parameter>`.
    """

    dry_run: bool | None = _yes_or_no("Only read. The log shows how often each value occurs and what would change.")
    force: bool = _switch("Patch now, even if the index was not rebuilt.")
    dry_run_notify: bool | None = _yes_or_no(
        "A dry run sends one test alert.", title="Notify of the dry run", section="How"
    )
    compare_every: int | None = _number(
        "After this many runs without a rebuild, compare the whole index with the rule; 0 = never. Empty = the value "
        "of the Airflow variable, or by the size of the index: 15 for 5,000 records, 1440 for 1,000,000.",
        section="How",
        minimum=0,
        maximum=1_000_000,
    )
    time_limit_minutes: int | None = _number(
        "Stop a run that takes longer; the next run continues. Empty = the value of the Airflow variable, or "
        f"{USUAL_MINUTES}.",
        title="Time limit in minutes",
        section="How",
        minimum=1,
        maximum=MAX_MINUTES,
    )


VARIABLES = ("dry_run", "dry_run_notify", "compare_every", "time_limit_minutes")


@dataclass(frozen=True, kw_only=True)
class OutboundParams:
    """Parameters of an outbound DAG. The defaults send what changed."""

    orders: tuple[str, ...] = _lines(
        "Codes of orders to send now, one per line, even if they have not changed.", longest=40
    )
    event: str | None = _text(
        "Slug of the event that these orders belong to. Empty = any event. `SELECT slug, name FROM source_event` lists "
        "them.",
        longest=50,
    )
    limit: int | None = _number(
        "Stop after this many orders; empty = send all due orders.", minimum=1, maximum=MAX_RECORDS
    )
    dry_run: bool = _switch(
        "Send nothing. The log shows what would be sent for these orders (or for the next ones in the queue), and "
        "which fields would change.",
        section="How",
    )
    send_unchanged: bool = _switch("Also send objects that equal what was sent last.", section="How")
    retry: str | None = _choice(
        "Retry parked orders: all of them, or those with one reason. `make problems` lists them.",
        {
            "enum": [None, "all", "exceeded", "permanent", "config", "internal", "timeout"],
            "values_display": {"null": "nothing"},
        },
        section="Repair",
    )
    cancel: tuple[str, ...] = _lines(
        "Codes of orders to remove from the queue, one per line. They stay in the log.", section="Repair", longest=40
    )
    mappings: list[dict[str, Any]] | None = _document(  # noqa: RUF009 - it gives a field
        "New mappings for this target, as JSON. They are validated, then stored as a new version.",
        {"type": ["null", "array"], "items": {"type": "object", **_members(3)}, "maxItems": 100},
        section="Mappings",
    )
    mappings_version: int | None = _number(
        "Return to this earlier version of the mappings.",
        title="Mappings: back to version",
        section="Mappings",
        minimum=1,
        maximum=INT4,
    )
    copy_event_from: str | None = _text(
        "After an event was copied: the slug of the original. The stored mappings of all targets then use the check-in "
        "lists of the copy, matched by name, as a new version; entries of lists without a copy are marked as invalid.",
        title="Copied event: original",
        section="Mappings",
        longest=50,
    )
    copy_event_to: str | None = _text(
        "The slug of the copy of that event.", title="Copied event: copy", section="Mappings", longest=50
    )


def sync_params(*, needs_venue: bool = True) -> dict[str, Param]:
    """Return the form of an inbound DAG; without `needs_venue`, it has no field for venue links."""
    form = _form(SyncParams)
    if not needs_venue:
        del form["venue_links"]
    return form


def venue_link_params() -> dict[str, Param]:
    """Return the form of the DAG for venue links."""
    return _form(VenueLinkParams)


def search_params() -> dict[str, Param]:
    """Return the form of a DAG that patches a search index."""
    return _form(SearchParams)


def outbound_params() -> dict[str, Param]:
    """Return the form of an outbound DAG."""
    return _form(OutboundParams)


def _form(form: Any) -> dict[str, Param]:
    return {each.name: _param(each) for each in fields(form)}


def _param(parameter: Field[Any]) -> Param:
    found = parameter.metadata
    schema = {key: value() if callable(value) else value for key, value in found["schema"].items()}
    schema.setdefault("title", parameter.name.replace("_", " ").capitalize())
    return Param(found["shown"], found["description"], **schema)


# Reading parameters in a task


def read_params(context: Context, form: type[Form]) -> Form:
    """Return the validated and converted parameters of a run; null and "" give the default.

    Every operator calls this first, so that a run with an unknown parameter does nothing at all.

    :param form: one of the classes above.

    Raises:
        ConfigurationError: the run has an unknown parameter or an invalid value, or this Airflow ignores the parameters
            of runs.
    """
    run, params = context["dag_run"], context["params"]
    conf = run.conf or {}
    names = [each.name for each in fields(form)]  # type: ignore[arg-type]
    known = dict.fromkeys([*names, *context["dag"].params, *context["task"].params])
    if unknown := unknown_params(conf, known):
        raise ConfigurationError(f"{run.dag_id} {unknown}. Nothing was done: trigger it again with the correct name")
    if ignored := [name for name, value in conf.items() if [params.get(name)] != [value]]:
        raise ConfigurationError(
            f"This Airflow ignores the parameters of runs, here {', '.join(ignored)}: nothing was done. Set "
            "dag_run_conf_overrides_params in the section core of Airflow's configuration to true"
        )
    return form(**{each.name: _value(each, params.get(each.name)) for each in fields(form)})  # type: ignore[arg-type]


def _value(parameter: Field[Any], given: Any) -> Any:
    """Return the converted value of a parameter, or its default."""
    if given is None or given == "":
        return parameter.default
    try:
        _param(parameter).resolve(given)
    except ParamValidationError as error:
        raise ConfigurationError(f"The parameter {parameter.name}: {_reason(error)}") from None
    return parameter.metadata["read"](given)


def _reason(error: ParamValidationError) -> str:
    """Return jsonschema's message without the schema, shortened."""
    reason = str(getattr(error.args[0], "message", error.args[0]))
    return (
        reason
        if len(reason) <= MAX_SHOWN_LENGTH
        else f"{reason[: MAX_SHOWN_LENGTH // 2]} … {reason[-MAX_SHOWN_LENGTH // 2 :]}"
    )


def load_parameters(params: SyncParams, context: Context) -> LoadParameters:
    """Return the parameters of a load as the ledger stores them, with the data interval of a backfill run.

    Raises:
        ConfigurationError: two parameters exclude each other.
    """
    from include.store.ledger import LoadParameters

    if params.replay_rejected and params.full_refresh:
        raise ConfigurationError(
            "replay_rejected reads stored rejected records, full_refresh reads the service: choose one of them"
        )
    run = context["dag_run"]
    is_backfill = has_type(run, "backfill")
    return LoadParameters(
        venue_links=tuple("".join(link.split()) for link in params.venue_links),
        full_refresh=params.full_refresh,
        limit=params.limit,
        dry_run=params.dry_run,
        chunk_size=params.chunk_size,
        interval_start=run.data_interval_start if is_backfill else None,
        interval_end=run.data_interval_end if is_backfill else None,
        replay=params.replay_rejected,
        accept_shrunk=params.accept_shrunk,
        error_limit=params.error_limit,
    )


# Airflow variables as defaults of parameters


def read_search_params(context: Context) -> SearchParams:
    """Return the parameters of a run that patches an index; empty ones come from the Airflow variables.

    Raises:
        ConfigurationError: as `read_params`, or an Airflow variable has an invalid value.
    """
    params = read_params(context, SearchParams)
    values = {each.name: getattr(params, each.name) for each in fields(params)}
    for each in fields(params):
        if each.name in VARIABLES and values[each.name] is None:
            values[each.name] = _variable(each, f"{context['dag_run'].dag_id}_{each.name}")
    return SearchParams(**values)


def _variable(parameter: Field[Any], name: str) -> Any:
    """Return the value of an Airflow variable, validated with the schema of its parameter; the default without one."""
    if (given := Variable.get(name, default=None)) is None:
        return parameter.default
    text = str(given).strip()
    shown = shortened(text, MAX_SHOWN_LENGTH)
    schema = parameter.metadata["schema"]
    if "boolean" in schema["type"]:
        if text.lower() not in (*YES, *NO):
            raise ConfigurationError(f"The Airflow variable {name} has {shown!r}: expected true or false")
        return text.lower() in YES
    if not text:
        return parameter.default
    lowest, highest = schema["minimum"], schema["maximum"]
    number = _whole_number(text)
    if number is None or not lowest <= number <= highest:
        raise ConfigurationError(
            f"The Airflow variable {name} has {shown!r}: expected a whole number from {lowest} to {highest}"
        )
    return number


def _whole_number(text: str) -> int | None:
    """Return the number in a text, also if it is written as 15.0; None if it is not a whole number."""
    try:
        number = float(text) if len(text) <= 20 else float("nan")
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
