"""The rows of the database, as typed objects."""

from include.models.base import Providable
from include.models.catalogue import Offer, Product, Stock
from include.models.links import LinkStatus, VenueLink

__all__ = ["LinkStatus", "Offer", "Product", "Providable", "Stock", "VenueLink"]
