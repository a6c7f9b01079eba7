"""The stand-ins before which the contract suite runs the targets of the project. A new target adds one here.

A stand-in has `target`, `secret` (the key that must never be shown), `unusable` (values of an order that the service
refuses) and `named` (what the error must name: the field and the value), and the methods below.
"""

from contextlib import contextmanager
from types import MappingProxyType

import requests

from include.connectors.http import HttpConnector
from include.targets.mailing_list import MailingList
from sandbox.testing import serving
from sandbox.world import Settings, World


class BrevoStandIn:
    """The sandbox's Brevo."""

    target = MailingList
    secret = "5ecret-brevo-key"
    unusable = MappingProxyType({"email": "not an address"})
    named = ("e-mail address", "not an address")

    def __init__(self, url):
        self.url = url

    @classmethod
    @contextmanager
    def running(cls):
        with serving(World(Settings(books=10, offers=0, brevo_key=cls.secret))) as url:
            yield cls(url)

    def connector(self, key=secret, **options):
        return HttpConnector(f"{self.url}/brevo/v3", headers={"api-key": key}, **options)

    def fault(self, fault, **rule):
        body = [{"fault": fault, "service": "brevo", **rule}]
        assert requests.post(f"{self.url}/sandbox/faults", json=body, timeout=10).ok

    def heal(self):
        assert requests.delete(f"{self.url}/sandbox/faults", timeout=10).ok

    def objects(self):
        """What the service stores, by identity."""
        return {each["ext_id"]: (each["email"], each["attributes"]) for each in self.contacts()}

    def times_created(self):
        """How often its objects were created, as a set."""
        return {each["created"] for each in self.contacts()}

    def requests(self):
        """How many requests it received."""
        found = requests.get(f"{self.url}/sandbox/requests", timeout=10).json()
        return len([each for each in found if each["path"].startswith("/brevo/")])

    def contacts(self):
        return requests.get(f"{self.url}/sandbox/brevo", timeout=10).json()["contacts"]


STAND_INS = (BrevoStandIn,)
