"""The database of a soak, as that of a benchmark."""

from tests.bench.conftest import running

__all__ = ["running"]
