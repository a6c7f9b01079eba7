"""The source fields that targets can be sent."""

from __future__ import annotations

from local.docs.sources import Sources, table


def render(sources: Sources) -> str:  # noqa: ARG001 - as all generators
    """Return a table per source model."""
    from include.targets.fields import data_fields

    return "\n\n".join(
        f"### {model}\n\n"
        + table(("Field", "Label"), [(f"`{key}`", found.label) for key, found in data_fields(None, model).items()])
        for model in ("Order", "OrderPosition", "Offer", "Stock")
    )
