"""Send alerts: to Teams, or through the Airflow notifier that the Variable `alerts_notifier` names.

The Variable is JSON, `{"notifier": "<class path>", "kwargs": {…}}`, and is read for each alert. The template fields of
the notifier may use `{{ alert.title }}`, `{{ alert.text }}`, `{{ alert.html }}`, `{{ alert.url }}`, `{{ alert.tone }}`
and `{{ alert.facts }}`. Message fields that the Variable does not set are filled in from `DEFAULTS`.

https://airflow.apache.org/docs/apache-airflow/stable/howto/notifications.html
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, BaseNotifier, Variable
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from include.errors import ConfigurationError, ProviderSyncError

if TYPE_CHECKING:
    from include.models.alerts import Alert

log = logging.getLogger(__name__)

SETTING = "alerts_notifier"
TEAMS = "teams"
"""Airflow connection of the Teams channel."""
EXAMPLE = '{"notifier": "airflow.providers.smtp.notifications.smtp.SmtpNotifier", "kwargs": {"to": "ops@example.org"}}'
PROVIDERS = "airflow.providers."

DEFAULTS: dict[str, Any] = {
    "subject": "{{ alert.title }}",
    "html_content": "{{ alert.html }}",
    "text": "{{ alert.title }}\n\n{{ alert.text }}",
    "message": "{{ alert.title }}\n\n{{ alert.text }}",
    "json": {
        "title": "{{ alert.title }}",
        "text": "{{ alert.text }}",
        "tone": "{{ alert.tone }}",
        "url": "{{ alert.url }}",
    },
}
"""Default messages, by the name of the notifier's argument."""


def send_alert(make_alert: Callable[[], Alert], context: Mapping[str, Any] | None = None) -> bool:
    """Send an alert; returns False, with a line in the log, if it was not delivered. Never raises.

    If the configured notifier fails, the alert goes to Teams, if the connection exists.

    :param make_alert: returns the alert.
    :param context: Airflow's context, which the templates of the notifier may use.
    """
    from include.connectors.redaction import Redactor, redact

    try:
        alert = make_alert()
    except Exception as error:
        log.warning("Could not create the alert: %s: %s", type(error).__name__, redact(error))
        return False
    redact_secrets: Callable[[object], str] = redact
    try:
        if text := str(Variable.get(SETTING, default=None) or "").strip():
            path, kwargs = _read(text)
            secrets = list(_secrets(kwargs))
            redact_secrets = Redactor(secrets)
            for secret in secrets:
                mask_secret(secret)
            _notify(path, kwargs, alert, context or {})
            log.info("Sent the alert %r through %s", alert.title, path)
            return True
    except ConfigurationError as error:
        log.warning("The Airflow Variable %s %s. Trying Teams instead", SETTING, redact_secrets(error))
    except Exception as error:  # a notifier may raise anything
        shown = f"{type(error).__name__}: {redact_secrets(error)}"
        log.warning("The notifier of the Airflow Variable %s failed: %s. Trying Teams instead", SETTING, shown)
    try:
        return _post_to_teams(alert)
    except Exception as error:  # an alert must not make the task fail
        log.warning("Could not deliver the alert to Teams: %s: %s", type(error).__name__, redact(error))
        return False


def _read(text: str) -> tuple[str, dict[str, Any]]:
    """Return the class path and the arguments in the Variable."""
    try:
        setting = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"is not JSON ({error}). Example: {EXAMPLE}") from None
    path = setting.get("notifier") if isinstance(setting, dict) else None
    if not isinstance(path, str) or not path:
        raise ConfigurationError(f"does not name a notifier. Example: {EXAMPLE}")
    if unknown := sorted(setting.keys() - {"notifier", "kwargs"}):
        raise ConfigurationError(f"has unknown keys: {', '.join(unknown)}; the keys are notifier and kwargs")
    kwargs = setting.get("kwargs") or {}
    if not isinstance(kwargs, dict):
        raise ConfigurationError("must have an object of arguments as kwargs")
    return path, kwargs


def _notify(path: str, kwargs: dict[str, Any], alert: Alert, context: Mapping[str, Any]) -> None:
    notifier_class = _notifier_class(path)
    accepted = inspect.signature(notifier_class).parameters
    missing = {name: value for name, value in DEFAULTS.items() if name in accepted and name not in kwargs}
    if "data" in kwargs:  # the HTTP notifier accepts either of them as body
        missing.pop("json", None)
    try:
        notifier = notifier_class(**missing, **kwargs)
    except TypeError as error:
        raise ConfigurationError(f"has kwargs that {path} does not accept: {error}") from None
    full_context: Any = {**context, "alert": alert}
    notifier.render_template_fields(full_context)
    notifier.notify(full_context)


def _notifier_class(path: str) -> type[BaseNotifier]:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        install = ""
        if path.startswith(PROVIDERS) and isinstance(error, ModuleNotFoundError):
            provider = path.removeprefix(PROVIDERS).partition(".notifications")[0].replace(".", "-")
            install = f". Is apache-airflow-providers-{provider} installed?"
        raise ConfigurationError(f"names {path}, which cannot be imported: {error}{install}") from None
    if not isinstance(found, type) or not issubclass(found, BaseNotifier) or inspect.isabstract(found):
        raise ConfigurationError(f"names {path}, which is not an Airflow notifier (a subclass of BaseNotifier)")
    return found


def _secrets(value: Any, name: str = "") -> Iterator[str]:
    """Yield the argument values that must not be logged: secrets, and URLs that contain one."""
    from include.connectors.redaction import looks_secret

    if isinstance(value, dict):
        for key, each in value.items():
            yield from _secrets(each, str(key))
    elif isinstance(value, list):
        for each in value:
            yield from _secrets(each, name)
    elif isinstance(value, str) and "{{" not in value and not name.endswith("conn_id"):
        yield from [value] if looks_secret(name) or "hook" in name or "url" in name else []


def _post_to_teams(alert: Alert) -> bool:
    """Post an alert to the Teams channel; returns False, with a line in the log, if that failed.

    The password of the connection is the URL of a Teams workflow. `channelId` and `apiKey` in its extra are sent with
    the alert, for workflows that require them.
    """
    from include.connectors.teams import adaptive_card, post_card

    try:
        connection = BaseHook.get_connection(TEAMS)
    except AirflowNotFoundException:
        log.info("Alert not sent: there is no Airflow connection %r", TEAMS)
        return False
    url = connection.password or connection.host
    if not url:
        log.warning(
            "Alert not sent: the Airflow connection %r must have the URL of a Teams workflow as password", TEAMS
        )
        return False
    extras = {name: str(value) for name, value in connection.extra_dejson.items() if name in ("channelId", "apiKey")}
    card = adaptive_card(alert.title, text=alert.body, facts=alert.facts, tone=alert.tone, url=alert.url)
    try:
        post_card(url, card, extras, conn_id=TEAMS)
    except ProviderSyncError as error:
        log.warning("Could not deliver the alert to Teams: %s", error)
        return False
    log.info("Sent the alert %r to the Teams channel of connection %r", alert.title, TEAMS)
    return True
