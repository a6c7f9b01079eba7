"""The demo data: invented bookshops and books, as rows that the local run loads into PostgreSQL.

The venues are those whose stocks the sandbox lists; the products are the books in their listings. Most can be sold,
some belong to another subcategory or violate the terms of use, and some refs of the listings have no product.
`sandbox.suppliers` knows which venue is linked to which supplier.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sandbox.listing import eans
from sandbox.movies import FIRST_NAMES, LAST_NAMES, TITLE_BEGINNINGS, TITLE_ENDINGS
from sandbox.world import Settings, salt, scatter, siret

_SHOPS = (
    ("La Plume et le Hibou", "75"),
    ("Au Fil des Marées", "29"),
    ("Le Renard Lettré", "69"),
    ("L'Encrier Voyageur", "2A"),
    ("Les Feuilles du Flamboyant", "974"),
    ("La Marge Bleue", "33"),
    ("Le Chat sur la Pile", "59"),
    ("Chapitre Douze", "13"),
)
_TOWNS = (
    "Vallebrune",
    "Port-Azerel",
    "Montfleur",
    "Saint-Orbin",
    "Clairvoye",
    "Rochemarine",
    "Belleronce",
    "Aubeterne",
)
_DEPARTEMENTS = ("01", "17", "35", "44", "67", "2B", "971", "973")

_PUBLISHERS = ("Éditions du Grèbe", "Presses de l'Estran", "La Ronce", "Maison Quatre-Vents")
_ABOUT = (
    "une famille",
    "un inconnu",
    "une institutrice",
    "un gardien de nuit",
    "une jeune harpiste",
    "un vieux relieur",
)
_FINDS = ("retrouve une lettre", "quitte son village", "hérite d'une maison", "apprend à se taire", "attend un train")


def venue(number: int, name: str, departement: str) -> dict[str, Any]:
    """Return the row of a venue. Its number determines its SIRET."""
    return {
        "name": name,
        "siret": siret(number),
        "departement_code": departement,
        "booking_email": f"reservations.{number + 1}@example.org",
    }


def venues(settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield the bookshops that TiteLive lists, in its order."""
    for number in range(settings.venues):
        if number < len(_SHOPS):
            yield venue(number, *_SHOPS[number])
        else:
            rest = number - len(_SHOPS)
            yield venue(number, *in_towns("Librairie", rest))


def in_towns(kind: str, place: int) -> tuple[str, str]:
    """Return the name and the département code of the `place`-th venue of a kind."""
    name = f"{kind} de {_TOWNS[place % len(_TOWNS)]}"
    name += f" {place // len(_TOWNS) + 1}" if place >= len(_TOWNS) else ""
    return name, _DEPARTEMENTS[place % len(_DEPARTEMENTS)]


def products(settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield the products that the database knows, in ascending order of ref."""
    by = salt(settings.seed, "product")
    for number in range(settings.catalogue_size):
        draw = scatter(number, by)
        kind, words = draw % 100, draw // 100
        if kind < 4:
            continue  # listed by the bookshops, but not a known product
        yield {
            "id_at_providers": eans(settings, [number])[0],
            "name": _title(words),
            "description": _description(words),
            "extra_data": _extra_data(words, priced=kind >= 7),
            "subcategory_id": "LIVRE_AUDIO_PHYSIQUE" if kind in (7, 8, 9) else "LIVRE_PAPIER",
            "is_gcu_compatible": kind not in (10, 11),
            "is_synchronization_compatible": kind != 12,
        }


def _word(draw: int, *lists: tuple[str, ...]) -> list[str]:
    words = []
    for choices in lists:
        draw, place = divmod(draw, len(choices))
        words.append(choices[place])
    return words


def _title(draw: int) -> str:
    thing, of = _word(draw, TITLE_BEGINNINGS, TITLE_ENDINGS)
    volume = draw // (len(TITLE_BEGINNINGS) * len(TITLE_ENDINGS)) % 12
    return f"{thing} {of}" + (f", tome {volume + 1}" if volume < 4 else "")


def _description(draw: int) -> str:
    who, does = _word(draw // 7, _ABOUT, _FINDS)
    return f"Où {who} {does}."


def _extra_data(draw: int, *, priced: bool) -> dict[str, Any]:
    first, last, publisher = _word(draw // 11, FIRST_NAMES, LAST_NAMES, _PUBLISHERS)
    extra: dict[str, Any] = {"author": f"{first} {last}", "editeur": publisher, "nb_pages": 80 + draw % 500}
    if priced:
        extra["prix_livre"] = f"{5 + draw % 30}.{draw % 10}0"
    return extra
