"""The time zone of a venue, by its département."""

from __future__ import annotations

from zoneinfo import ZoneInfo

MAINLAND = "Europe/Paris"
OVERSEAS = {
    "971": "America/Guadeloupe",
    "972": "America/Martinique",
    "973": "America/Cayenne",
    "974": "Indian/Reunion",
    "975": "America/Miquelon",
    "976": "Indian/Mayotte",
    "977": "America/St_Barthelemy",
    "978": "America/Marigot",
    "984": "Indian/Kerguelen",
    "986": "Pacific/Wallis",
    "987": "Pacific/Tahiti",
    "988": "Pacific/Noumea",
    "989": "Pacific/Pitcairn",  # Clipperton (uninhabited) uses UTC-8
}


def zone_of(departement_code: str | None) -> ZoneInfo:
    """Return the time zone of a French département by code (`75`, `2A`, `974`); mainland time for other codes and None.

    Codes: https://www.insee.fr/fr/information/2560452; zones: https://www.iana.org/time-zones.
    """
    return ZoneInfo(OVERSEAS.get(departement_code or "", MAINLAND))
