"""Praxiel: stocks of bookshops that use its software Inférence, by the stock provider API.

The venue's id there is its SIRET unless the link says otherwise. Prices are in euros. The address has an account number
in it, which is part of the connection.
"""

from __future__ import annotations

from typing import ClassVar

from include.providers.stock_api import StockApiProvider


class PraxielStocks(StockApiProvider):
    """Stocks that bookshops give to Praxiel."""

    name: ClassVar[str] = "Praxiel stocks"
    conn_id: ClassVar[str] = "praxiel_stocks_api"
    requests_per_second: ClassVar[float | None] = 10
