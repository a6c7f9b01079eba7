"""Fnac: stocks of its bookshops, by the stock provider API.

The venue's id there is its SIRET unless the link says otherwise. Fnac asks for Basic credentials: login and password of
the connection. Prices are in euros.
"""

from __future__ import annotations

from typing import ClassVar

from include.providers.stock_api import StockApiProvider


class FnacStocks(StockApiProvider):
    """Stocks of Fnac's bookshops."""

    name: ClassVar[str] = "Fnac stocks"
    conn_id: ClassVar[str] = "fnac_stocks_api"
    requests_per_second: ClassVar[float | None] = 10
