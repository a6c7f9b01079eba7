"""The demo orders: invented events with tickets, questions, attendees, payments and check-ins, as rows of the database.

Everything is computed from the seed. Ids count from 1 within each table of an event; the loader replaces them. Three
orders of the first event are edge cases: the first has an emoji in its names, the second has no names at all, the third
has a company and a non-ASCII mail host.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sandbox.world import START, Settings, salt, scatter

ORDERS = 32
"""Number of orders per event."""

Rows = list[dict[str, Any]]
Tables = dict[str, Rows]

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_GIVEN_NAMES = ("Adélie", "Bastien", "Clémence", "Djibril", "Eulalie", "Florent", "Ghislaine", "Hugo", "Inès", "Joris")
_FAMILY_NAMES = ("Ambrosin", "Beaurivage", "Carandel", "d'Orvigny", "Esparron", "Ferrandel", "Guérinet", "Hallorand")
_TOWNS = (("Vallebrune", "75901"), ("Port-Azerel", "29902"), ("Montfleur", "69903"), ("Clairvoye", "13904"))
_COMPANIES = ("Papeterie Azerel & Filles", "Imprimerie du Grèbe", "Café des Marées")


class _Product(NamedTuple):
    name: str
    price: str
    variations: tuple[str, ...] = ()
    is_admission: bool = True
    internal_name: str | None = None


class _Plan(NamedTuple):
    slug: str
    name: str
    locales: tuple[str, ...]
    name_parts: tuple[str, ...]
    nights: tuple[str, ...]
    tickets: tuple[_Product, ...]
    add_on: _Product
    checkin_list: str
    questions: tuple[tuple[str, str, str], ...]


_OPTIONS = {
    "menu": (("fish", "Poisson"), ("vegetables", "Légumes"), ("none", "Rien")),
    "genres": (("novel", "Romans"), ("comics", "Bandes dessinées"), ("poetry", "Poésie"), ("essay", "Essais")),
    "seat": (("front", "In front"), ("back", "At the back")),
    "languages": (("en", "English"), ("fr", "French"), ("de", "German")),
}
_PLANS = (
    _Plan(
        slug="salon",
        name="Salon du livre de Vallebrune",
        locales=("fr", "en"),
        name_parts=("given_name", "family_name"),
        nights=(),
        tickets=(_Product("Entrée", "12.00", ("plein tarif", "tarif réduit")), _Product("Pass deux jours", "23.00")),
        add_on=_Product("Déjeuner", "15.50", is_admission=False, internal_name="Repas (traiteur)"),
        checkin_list="Porte nord",
        questions=(
            ("age", "Votre âge", "N"),
            ("badge", "Nom sur le badge", "S"),
            ("remarks", "Remarques", "T"),
            ("newsletter", "Recevoir la lettre d'information ?", "B"),
            ("menu", "Menu", "C"),
            ("genres", "Genres préférés", "M"),
            ("birthday", "Date de naissance", "D"),
            ("arrival", "Heure d'arrivée", "H"),
            ("train", "Train de retour", "W"),
            ("residence", "Pays de résidence", "CC"),
            ("phone", "Téléphone", "TEL"),
            ("photo", "Photo", "F"),
        ),
    ),
    _Plan(
        slug="nights",
        name="Reading Nights",
        locales=("en", "fr", "de"),
        name_parts=("full_name",),
        nights=("First night", "Second night", "Third night"),
        tickets=(_Product("Seat", "9.90"), _Product("Sofa for two", "26.00", ("red", "green"))),
        add_on=_Product("Mulled cider", "4.50", is_admission=False),
        checkin_list="Door",
        questions=(
            ("books", "Books a year", "N"),
            ("why", "Why do you come?", "T"),
            ("member", "Are you a member?", "B"),
            ("seat", "Where do you sit?", "C"),
            ("languages", "Languages", "M"),
            ("taxi", "Taxi at", "W"),
            ("country", "Country", "CC"),
        ),
    ),
)


def events(settings: Settings) -> Iterator[tuple[dict[str, Any], Tables]]:
    """Yield each event with its dependent rows by table, in an order that satisfies the foreign keys."""
    for number, plan in enumerate(_PLANS):
        begin = START + timedelta(days=90 + 30 * number, hours=9)
        event = {
            "id": 1,
            "slug": plan.slug,
            "name": plan.name,
            "date_from": begin,
            "date_to": begin + timedelta(days=2, hours=9),
            "timezone": "Europe/Paris",
            "locales": list(plan.locales),
            "name_parts": list(plan.name_parts),
            "public_url": f"https://tickets.example.org/{plan.slug}",
        }
        tables = _set_up(plan, event)
        for order in range(ORDERS):
            _Order(plan, event, tables, order, salt(settings.seed, "order", plan.slug)).add()
        yield event, tables


def _set_up(plan: _Plan, event: dict[str, Any]) -> Tables:
    nights = [
        {
            "name": name,
            "date_from": event["date_from"] + timedelta(days=night, hours=11),
            "date_to": event["date_from"] + timedelta(days=night, hours=15),
        }
        for night, name in enumerate(plan.nights)
    ]
    products = [
        {"name": p.name, "internal_name": p.internal_name, "is_admission": p.is_admission}
        for p in (*plan.tickets, plan.add_on)
    ]
    questions = [{"identifier": name, "label": label, "type": type} for name, label, type in plan.questions]
    tables: Tables = {
        "sub_event": _numbered(nights, event_id=1),
        "ticket_product": _numbered(products, event_id=1),
        "question": _numbered(questions, event_id=1),
        "question_option": [],
        "checkin_list": _numbered([{"name": plan.checkin_list}], event_id=1),
    }
    for question in tables["question"]:
        for identifier, label in _OPTIONS.get(question["identifier"], ()):
            _add(tables, "question_option", question_id=question["id"], identifier=identifier, label=label)
    return tables | {
        table: [] for table in ("customer_order", "payment", "invoice_address", "order_position", "answer", "checkin")
    }


def _numbered(rows: Rows, **more: Any) -> Rows:
    return [{"id": number, **row, **more} for number, row in enumerate(rows, 1)]


def _add(tables: Tables, table: str, **row: Any) -> int:
    number = len(tables[table]) + 1
    tables[table].append({"id": number, **row})
    return number


class _Order:
    """Generates the rows of one order."""

    def __init__(self, plan: _Plan, event: dict[str, Any], tables: Tables, number: int, by: int) -> None:
        self.plan, self.event, self.tables, self.number, self.by = plan, event, tables, number, by
        self.has_emoji, self.has_no_name, self.has_company = (
            plan is _PLANS[0] and number == special for special in range(3)
        )
        self.status = "p" if number < 4 else "pppppnpcpe"[self._draw("status") % 10]
        self.placed_at = START + timedelta(hours=31 * number, minutes=self._draw("minute") % 60)

    def add(self) -> None:
        """Add the rows of the order to the tables."""
        self.tables["customer_order"].append(order := self._row())
        self.id = order["id"] = len(self.tables["customer_order"])
        total = Decimal(0)
        for ticket in range(1 + self._draw("tickets") % 2):
            total += self._add_ticket(ticket)
        order["total"] = total
        self._add_payment(total)
        if self.has_company or self._draw("invoice") % 3 == 0:
            self._add_invoice_address()

    def _row(self) -> dict[str, Any]:
        place = (self.number * 7919117 + self.by) % len(_LETTERS) ** 5
        code = "".join(_LETTERS[place // len(_LETTERS) ** digit % len(_LETTERS)] for digit in range(5))
        host = "bücher.example" if self.has_company else "example.org"
        return {
            "id": 0,
            "event_id": 1,
            "code": code,
            "status": self.status,
            "email": None if self._draw("email") % 16 == 5 else f"reader.{self.number + 1}@{host}",
            "locale": self.plan.locales[self._draw("locale") % len(self.plan.locales)],
            "total": Decimal(0),
            "placed_at": self.placed_at,
            "expires_at": self.placed_at + timedelta(days=14),
            "secret": self._secret("order"),
        }

    def _add_ticket(self, ticket: int) -> Decimal:
        """Add a ticket, sometimes with an add-on; return their price."""
        place = self._draw("product", ticket) % len(self.plan.tickets)
        is_canceled = self.status == "c" or (ticket == 1 and self._draw("canceled") % 6 == 0)
        paid, parent = self._add_position(place, ticket, is_canceled=is_canceled)
        if self._draw("add-on", ticket) % 3 == 0:
            paid += self._add_position(len(self.plan.tickets), ticket, is_canceled=is_canceled, parent=parent)[0]
        return paid

    def _add_position(
        self, place: int, ticket: int, *, is_canceled: bool, parent: int | None = None
    ) -> tuple[Decimal, int]:
        product = (*self.plan.tickets, self.plan.add_on)[place]
        draw, nights = self._draw("position", ticket), len(self.plan.nights)
        town, zipcode = _TOWNS[draw % len(_TOWNS)]
        is_person, has_address = parent is None, parent is None and draw % 4 == 0
        number = sum(row["order_id"] == self.id for row in self.tables["order_position"]) + 1
        position = _add(
            self.tables,
            "order_position",
            order_id=self.id,
            number=number,
            parent_id=parent,
            product_id=place + 1,
            variation=product.variations[draw % len(product.variations)] if product.variations else None,
            sub_event_id=1 + draw % nights if nights else None,
            price=Decimal(product.price),
            is_canceled=is_canceled,
            secret=self._secret("position", number),
            voucher_code=f"READ{draw % 900 + 100}" if is_person and draw % 5 == 0 else "",
            attendee_name_parts=self._name(ticket) if is_person and not self.has_no_name else None,
            attendee_email=f"guest.{self.number + 1}.{number}@example.org" if is_person and draw % 3 else None,
            company=_COMPANIES[draw % len(_COMPANIES)] if has_address else None,
            street=f"{draw % 80 + 1} rue des Relieurs" if has_address else None,
            zipcode=zipcode if has_address else None,
            city=town if has_address else None,
            country="FR" if has_address else None,
        )
        if is_person:
            self._add_answers(position, ticket)
            self._add_checkins(position, draw, is_canceled=is_canceled)
        return (Decimal(0) if is_canceled and self.status != "c" else Decimal(product.price)), position

    def _add_answers(self, position: int, ticket: int) -> None:
        for question in self.tables["question"]:
            draw = self._draw("answer", ticket, question["id"])
            if draw % 4 == 0:
                continue
            options = [name for name, _ in _OPTIONS.get(question["identifier"], ())]
            chosen: list[str] = []
            if options:
                first = draw % len(options)
                chosen = options[first : first + (2 if question["type"] == "M" else 1)]
            self.tables["answer"].append(
                {
                    "position_id": position,
                    "question_id": question["id"],
                    "answer": ", ".join(chosen) or self._answer(question["type"], draw // 4),
                    "options": chosen,
                }
            )

    def _answer(self, type: str, draw: int) -> str:
        moment = self.event["date_to"] + timedelta(minutes=15 * (draw % 20))
        answers: dict[str, str] = {
            "N": str(18 + draw % 60),
            "S": _GIVEN_NAMES[draw % len(_GIVEN_NAMES)],
            "T": "Près d'une sortie, s'il vous plaît.\nMerci !",
            "B": ("True", "False")[draw % 2],
            "D": f"{1950 + draw % 50}-{1 + draw % 12:02}-{1 + draw % 28:02}",
            "H": f"{9 + draw % 8:02}:{draw % 4 * 15:02}",
            "W": moment.isoformat(),
            "CC": ("FR", "BE", "DE", "CH")[draw % 4],
            "TEL": f"+3319900{draw % 10_000:04}",
            "F": "file://badge.png",
        }
        return answers[type]

    def _add_checkins(self, position: int, draw: int, *, is_canceled: bool) -> None:
        if self.status != "p" or is_canceled or draw % 3 == 0:
            return
        at = self.event["date_from"] + timedelta(minutes=draw % 300)
        scans = [("entry", at, True, False)]
        if draw % 5 == 1:
            scans += [("exit", at + timedelta(hours=1), True, False), ("entry", at + timedelta(hours=2), True, False)]
        if draw % 5 == 2:
            scans.insert(0, ("entry", at - timedelta(minutes=2), False, False))
        if draw % 5 == 3:
            scans.insert(0, ("entry", at - timedelta(hours=1), True, True))
        for type, moment, is_successful, is_annulled in scans:
            _add(
                self.tables, "checkin", position_id=position, list_id=1, at=moment, type=type,
                is_successful=is_successful, is_annulled=is_annulled,
            )  # fmt: skip

    def _add_payment(self, total: Decimal) -> None:
        is_paid = self.status == "p" or (self.status == "c" and self._draw("refund") % 2 == 0)
        paid_at = self.placed_at + timedelta(minutes=5 + self._draw("paid") % 3000) if is_paid else None
        _add(self.tables, "payment", order_id=self.id, amount=total, paid_at=paid_at)

    def _add_invoice_address(self) -> None:
        town, zipcode = _TOWNS[self._draw("town") % len(_TOWNS)]
        self.tables["invoice_address"].append(
            {
                "order_id": self.id,
                "company": _COMPANIES[0] if self.has_company else "",
                "name_parts": self._name(0),
                "street": f"{self._draw('street') % 80 + 1} quai des Imprimeurs",
                "zipcode": zipcode,
                "city": town,
                "country": "FR",
            }
        )

    def _name(self, ticket: int) -> dict[str, str]:
        draw = self._draw("name", ticket)
        given, family = _GIVEN_NAMES[draw % len(_GIVEN_NAMES)], _FAMILY_NAMES[draw // 16 % len(_FAMILY_NAMES)]
        if self.has_emoji:
            given += " 🦉"
        return {"full_name": f"{given} {family}"} if self.plan.name_parts == ("full_name",) else {
            "given_name": given, "family_name": family
        }  # fmt: skip

    def _draw(self, *what: object) -> int:
        return scatter(self.number, self.by ^ salt(*what))

    def _secret(self, *what: object) -> str:
        return f"{self._draw('secret', *what):08x}{self._draw('more', *what):08x}"
