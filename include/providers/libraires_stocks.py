"""Leslibraires.fr: stocks of independent bookshops, by the stock provider API.

The service behind https://www.leslibraires.fr; the venue's id there is its SIRET unless the link says otherwise. Prices
are in euros.
"""

from __future__ import annotations

from typing import ClassVar

from include.providers.stock_api import StockApiProvider


class LibrairesStocks(StockApiProvider):
    """Stocks that bookshops give to leslibraires.fr."""

    name: ClassVar[str] = "Libraires stocks"
    conn_id: ClassVar[str] = "libraires_stocks_api"
    requests_per_second: ClassVar[float | None] = 10
