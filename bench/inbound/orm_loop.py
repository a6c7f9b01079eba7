"""An ORM loop: a SELECT per object, then an insert or an update, committed page by page."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal

import psycopg
from sqlalchemy import Numeric, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

from bench.inbound.loaders import pages
from bench.measuring import Task, main


class _Base(DeclarativeBase):
    pass


class _Stock(_Base):
    __tablename__ = "orm_stock"

    ref: Mapped[str] = mapped_column(primary_key=True)
    available: Mapped[int]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    title: Mapped[str]
    author: Mapped[str]
    publisher: Mapped[str]
    modified: Mapped[datetime]


def prepare(task: Task) -> Callable[[], object]:
    """Create the engine; the work is the whole listing."""
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(task.conninfo), poolclass=NullPool)

    def work() -> None:
        with Session(engine) as session:
            for page in pages(task.url, json.loads):
                for record in page:
                    _save(session, record)
                session.commit()
                session.expunge_all()

    return work


def _save(session: Session, record: dict[str, str]) -> None:
    modified = datetime.fromisoformat(record["modified"])
    stock = session.execute(select(_Stock).where(_Stock.ref == record["ref"])).scalar_one_or_none()
    if stock is None:
        stock = _Stock(ref=record["ref"])
        session.add(stock)
    elif stock.modified >= modified:
        return
    stock.available = int(record["available"])
    stock.price = Decimal(str(record["price"]))
    stock.title = record["title"]
    stock.author = record["author"]
    stock.publisher = record["publisher"]
    stock.modified = modified


if __name__ == "__main__":
    main(prepare)
