"""A provider without venues, as an example: a public register of films, one listing for everybody."""

from datetime import datetime
from typing import Annotated, ClassVar

import msgspec

from include.connectors.decoding import PageDecoder, Rejected
from include.connectors.pagination import OffsetPaginator
from include.models import Product, Providable
from include.providers.base import ProvidableInfo
from include.providers.paged import PagedProvider


class Film(msgspec.Struct):
    """A row of the listing."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=70)]
    title: Annotated[str, msgspec.Meta(min_length=1, max_length=140)]
    minutes: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    modified: Annotated[datetime, msgspec.Meta(tz=True)]


class FilmPage(msgspec.Struct):
    """A page of the listing."""

    films: list[Film | Rejected]
    total: int


class ExampleRegister(PagedProvider[Film]):
    """Products of a register."""

    name: ClassVar[str] = "Example register"
    can_create: ClassVar[bool] = True
    conn_id: ClassVar[str] = "example_register_api"
    needs_venue: ClassVar[bool] = False
    path = "films"
    decode: ClassVar[PageDecoder[FilmPage]] = PageDecoder(FilmPage, Film, "films")
    key_prefix: ClassVar[str] = "register:"
    key_field: ClassVar[str] = "id"

    def paginator(self) -> OffsetPaginator:
        return OffsetPaginator(records="films", total="total", size=40)

    def describe(self, record: Film) -> list[ProvidableInfo]:
        return [self.create_providable_info(Product, f"{self.key_prefix}{record.id}", record.modified)]

    def fill_object_attributes(self, obj: Providable) -> None:
        obj.name = self.record.title
        obj.subcategory_id = "FILM"
        obj.duration_minutes = self.record.minutes
