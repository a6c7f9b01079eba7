"""TiteLive: stocks of independent bookshops, by the stock provider API.

The service behind https://www.epagine.fr; the venue's id there is its SIRET. Prices are in cents.
"""

from __future__ import annotations

from typing import ClassVar

from include.providers.stock_api import StockApiProvider


class TiteLiveStocks(StockApiProvider):
    """Stocks that bookshops give to TiteLive."""

    name: ClassVar[str] = "TiteLive stocks"
    conn_id: ClassVar[str] = "titelive_stocks_api"
    prices_in_cents: ClassVar[bool] = True
    requests_per_second: ClassVar[float | None] = 10
