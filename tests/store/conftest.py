"""Venues with links and loads, written as rows."""

import pytest

TITELIVE = "TiteLiveStocks"


@pytest.fixture
def world(connection):
    """Two venues at TiteLive, and a provider without venues; returns a function that writes a load of a link."""
    venues = [
        connection.execute("INSERT INTO venue (name) VALUES (%s) RETURNING id", (name,)).fetchone()[0]
        for name in ("Au Fil", "La Plume")
    ]
    providers = {}
    for name, local_class in (("TiteLive", TITELIVE), ("Register", "Register")):
        row = connection.execute(
            "INSERT INTO provider (name, local_class) VALUES (%s, %s) RETURNING id", (name, local_class)
        )
        providers[local_class] = row.fetchone()[0]
    for venue in venues:
        connection.execute(
            "INSERT INTO venue_provider (venue_id, provider_id, venue_id_at_offer_provider) VALUES (%s, %s, 'x')",
            (venue, providers[TITELIVE]),
        )

    def load(link, state, *, provider=TITELIVE, parameters="{}", progress="{}", error=None, closed=True):
        connection.execute(
            "INSERT INTO catalog_scheme (provider_id, version) VALUES (%s, 1) ON CONFLICT DO NOTHING",
            (providers[provider],),
        )
        return connection.execute(
            """
            WITH scheme AS (SELECT id FROM catalog_scheme WHERE provider_id = %(provider)s),
            operation AS (
                INSERT INTO catalog_scheme_operation (catalog_scheme_id, name) SELECT id, 'x' FROM scheme
                ON CONFLICT (catalog_scheme_id, name) DO UPDATE SET name = 'x' RETURNING id
            ), root AS (
                INSERT INTO catalog (catalog_scheme_id, run_id, parameters, closed_at)
                SELECT id, 'titelive_stocks/r', %(parameters)s, CASE WHEN %(closed)s THEN now() END FROM scheme
                RETURNING id, catalog_scheme_id
            ), sub AS (
                INSERT INTO catalog (catalog_scheme_id, parent_id, venue_provider_id)
                SELECT catalog_scheme_id, id, %(link)s FROM root WHERE %(link)s::bigint IS NOT NULL RETURNING id
            )
            INSERT INTO catalog_scheme_operation_instance
                (operation_id, catalog_id, state, progress, error, started_at, finished_at)
            SELECT operation.id, coalesce((SELECT id FROM sub), root.id), %(state)s, %(progress)s, %(error)s,
                   now() - interval '2 min', now() - interval '1 min'
            FROM operation, root RETURNING id
            """,
            {
                "provider": providers[provider], "link": link, "state": state, "parameters": parameters,
                "progress": progress, "error": error, "closed": closed,
            },
        ).fetchone()[0]  # fmt: skip

    load.providers = providers
    return load
