"""The offers of an invented car dealer's site: the records of its search index.

They are computed from the seed and a generation. From one generation to the next, one offer in fifty is replaced by
another, and one in ten of the others changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sandbox.world import Settings, salt, scatter

INDEX = "offers"
"""The name of the index."""

_LIFETIME = 50  # generations until an offer is replaced
_CHANGES_EVERY = 10  # generations

_MODELS = (
    ("Alvarès", "Mistral"),
    ("Alvarès", "Tramontane"),
    ("Boréal", "Kestrel"),
    ("Boréal", "Lagune"),
    ("Corvane", "C2"),
    ("Corvane", "C5 Break"),
    ("Delmas", "Étoile"),
    ("Delmas", "Comète"),
    ("Estival", "Brise"),
    ("Fauvert", "Randonneur"),
    ("Fauvert", "Citadin"),
)
_TRIMS = ("Confort", "Ligne Bleue", "Sport", "Initiale", "Pro", "Évasion")
_ENERGIES = ("Essence", "Diesel", "Hybride", "Électrique", "GPL")
_GEARBOXES = ("Manuelle", "Automatique")
_CITIES = ("Vallebrune", "Port-Azerel", "Montfleur", "Saint-Orbin", "Clairvoye", "Rochemarine", "Belleronce")

_MISSING = object()
_ODD_NATURES = ("1", "5", " 3", 2.0, 5.0, 2.5, 0, 6, -1, True, None, _MISSING, "", "occasion", "n/a", [1])
_AVAILABILITIES = (*["en stock"] * 14, *["sur commande"] * 3, *["en arrivage"] * 2, "réservé")
_ODD_AVAILABILITIES = ("En stock", " en stock ", "EN STOCK", "en  stock", "en-stock", "stock", "", None, _MISSING)


def offers(settings: Settings, generation: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the records of a generation. Every generation has the same number of records."""
    by, odd = salt(settings.seed, "offer"), salt(settings.seed, "odd offer")
    for place in range(settings.offers):
        phase = scatter(place, by)
        age = generation + phase % _LIFETIME
        number = age // _LIFETIME * 100_000_000 + place
        revision = (age + phase // _LIFETIME) // _CHANGES_EVERY
        yield _offer(number, scatter(number, by), scatter(number * 1000 + revision, odd))


def _offer(number: int, draw: int, changing: int) -> dict[str, Any]:
    """Build an offer from two random numbers; the second one changes with the offer."""
    draw, model = divmod(draw, len(_MODELS))
    draw, trim = divmod(draw, len(_TRIMS))
    draw, energy = divmod(draw, len(_ENERGIES))
    draw, gearbox = divmod(draw, len(_GEARBOXES))
    draw, city = divmod(draw, len(_CITIES))
    rest, price = divmod(changing, 400)
    mileage = 0 if draw % 5 == 0 else 1000 + 37 * (draw % 4000)
    brand, name = _MODELS[model]
    record = {
        "objectID": f"{1_000_000_000 + number}",
        "title": f"{brand} {name} {_TRIMS[trim]}",
        "brand": brand,
        "model": name,
        "price": 7990 + 100 * price,
        "mileage": mileage,
        "year": 2025 - mileage // 18_000,
        "energy": _ENERGIES[energy],
        "gearbox": _GEARBOXES[gearbox],
        "city": _CITIES[city],
        "nature": _pick(rest, tuple(range(1, 6)), _ODD_NATURES),
        "disponibiliteForFO": _pick(rest // 7, _AVAILABILITIES, _ODD_AVAILABILITIES),
    }
    return {key: value for key, value in record.items() if value is not _MISSING}


def _pick(draw: int, usual: tuple[Any, ...], odd: tuple[Any, ...]) -> Any:
    draw, kind = divmod(draw, 25)
    choices = usual if kind else odd
    return choices[draw % len(choices)]
