"""A small target with its stand-in: a CRM that keeps deals by id. For the tests of the contract suite itself."""

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

import msgspec

from include.connectors.http import HttpConnector
from include.errors import AccessRefused, RequestRefused, SyncConfigError, UnrecoverableSyncError
from include.targets.base import OutboundSyncProvider, StaticMapping
from tests.outbound.conftest import entry

KEY = "5ecret-crm-key"


class Crm(OutboundSyncProvider):
    """Creates or replaces one deal per order."""

    identifier = "crm"
    display_name = "CRM"
    conn_id = "crm_api"
    concurrency = 2
    mappings = (
        StaticMapping(
            1, "Order", "deal", "event_order_code", "id", [entry("email", "mail"), entry("order_total", "total")]
        ),
    )

    def sync_object_with_properties(self, *, id_value, properties, mapping, **_):
        fields = {name: value for name, value, _mode in properties}
        try:
            response = self.write(f"{mapping.external_object_type}s/{id_value}", fields)
        except RequestRefused as error:
            raise UnrecoverableSyncError([f"The CRM refused mail {fields.get('mail')!r}"], str(error)) from error
        except AccessRefused as error:
            raise SyncConfigError([f"Check the connection {self.conn_id}: {error}"]) from error
        return {"external_link_href": f"https://crm.example/{id_value}", "crm_id": response["id"]}

    def write(self, path, fields):
        return self.connector.request(
            "PUT",
            path,
            body=msgspec.json.encode(fields),
            headers={"Content-Type": "application/json"},
            decode=lambda body: msgspec.json.decode(body, type=dict),
        ).value


class CrmService:
    """The stand-in. Each deal has its fields and the number of times it was created."""

    def __init__(self):
        self.deals = {}
        self.created = Counter()
        self.requests = 0
        self.rule = None
        self.lock = threading.Lock()

    def answer(self, handler):
        with self.lock:
            self.requests += 1
            rule = self.rule
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if rule and rule["fault"] == "delay":
            time.sleep(rule["seconds"])
        elif rule and rule["fault"] == "cut":
            handler.close_connection = True
            return None
        elif rule and rule["fault"] == "html":
            return self.respond(handler, 200, b"<html>", {})
        elif rule:
            extra = {"Retry-After": str(rule["retry_after"])} if "retry_after" in rule else {}
            return self.respond(handler, rule["status"], b"{}", extra)
        if handler.headers.get("Api-Key") != KEY:
            return self.respond(handler, 401, b"{}", {})
        fields = json.loads(body)
        if fields.get("mail") and "@" not in fields["mail"]:
            return self.respond(handler, 400, b"{}", {})
        id_ = handler.path.rpartition("/")[2]
        with self.lock:
            if handler.command == "POST":  # creates a new deal each time
                id_ = f"{id_}#{len(self.deals)}"
            self.created[id_] += id_ not in self.deals
            self.deals[id_] = fields
        return self.respond(handler, 200, json.dumps({"id": id_}).encode(), {})

    def respond(self, handler, status, body, headers):
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


class CrmStandIn:
    """The stand-in as the contract suite uses it."""

    target = Crm
    secret = KEY
    unusable = MappingProxyType({"email": "not an address"})
    named = ("mail", "not an address")

    def __init__(self, service, url):
        self.service = service
        self.url = url

    @classmethod
    @contextmanager
    def running(cls):
        service = CrmService()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self):
                service.answer(self)

            do_POST = do_PUT  # noqa: N815

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield cls(service, f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def connector(self, key=KEY, **options):
        return HttpConnector(self.url, headers={"Api-Key": key}, **options)

    def fault(self, fault, **rule):
        self.service.rule = {"fault": fault, **rule}

    def heal(self):
        self.service.rule = None

    def objects(self):
        return {id_: dict(fields) for id_, fields in self.service.deals.items()}

    def times_created(self):
        return set(self.service.created.values())

    def requests(self):
        return self.service.requests
