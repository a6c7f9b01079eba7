"""A cinema's listing: a record per film, with its showtimes."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from include.models import Offer, Product, Stock
from include.providers.base import LocalProvider

TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)


def hour(number):
    """This time tomorrow, plus a number of hours."""
    return TOMORROW + timedelta(hours=number)


def film(name, *shows, date=None, **more):
    """A record of a film with shows at these hours, which their keys name too; `more` are fields of all of them."""
    shows = {f"{name}#{show}": {"beginning_datetime": hour(show), **more} for show in shows}
    return {"film": name, "date": date, "shows": shows}


class Shows(LocalProvider):
    """Lists films as `film` makes them; exceptions in the list are raised. Booked shows stay on sale when gone."""

    name = local_class = "Shows"
    can_create = True
    complete_tables = (Stock,)

    def __init__(self, records, link):
        super().__init__(link)
        self.all_records = list(records)
        self.filled_gone = []

    def open(self):
        self.records = iter(self.all_records)

    def __next__(self):
        record = next(self.records)
        if isinstance(record, Exception):
            raise record
        self.record = record
        infos = [
            self.create_only_info(Product, record["film"]),
            self.create_only_info(Offer, f"{record['film']}@{self.venue.id}", record["film"]),
        ]
        for key, show in record["shows"].items():
            self.record = {**record, "show": show}
            infos.append(self.create_providable_info(Stock, key, record["date"]))
        return infos

    def fill_object_attributes(self, obj):
        record = self.record
        if isinstance(obj, Product):
            obj.name, obj.subcategory_id = record["film"], "SEANCE_CINE"
        elif isinstance(obj, Offer):
            obj.product_id, obj.venue_id = self.id_of(Product, record["film"]), self.venue.venue_id
            obj.name, obj.subcategory_id = record["film"], "SEANCE_CINE"
        else:
            self.fill_stock(obj)

    def fill_stock(self, stock):
        if stock.id is None:
            stock.offer_id = self.id_of(Offer, f"{self.record['film']}@{self.venue.id}")
        stock.price, stock.quantity, stock.is_soft_deleted = Decimal(10), 100, False
        for name, value in self.record["show"].items():
            setattr(stock, name, value)

    def fill_removed_attributes(self, obj):
        self.filled_gone.append(obj.id)
        if obj.booked_quantity == 0:
            obj.is_soft_deleted = True
        else:
            obj.quantity = obj.booked_quantity


class Numbered(Shows):
    """Can go on behind a record."""

    def open(self):
        self.place = int(self.resume_from or 0)
        self.records = iter(self.all_records[self.place :])

    def __next__(self):
        infos = super().__next__()
        self.place += 1
        return infos

    @property
    def cursor(self):
        return str(self.place)
