"""The source fields that targets can be sent."""

from __future__ import annotations

from local.docs.sources import Sources, table


def render(sources: Sources) -> str:  # noqa: ARG001 - as all generators
    """Return a table per source model; a position also has the fields of its order, a stock those of its offer."""
    from include.targets.fields import data_fields

    chapters = []
    for parent, child in (("Order", "OrderPosition"), ("Offer", "Stock")):
        fields = data_fields(None, parent)
        own = {key: field for key, field in data_fields(None, child).items() if key not in fields}
        for title, found in ((parent, fields), (f"{child}, in addition to those of {parent}", own)):
            rows = [(f"`{key}`", field.label) for key, field in found.items()]
            chapters.append(f"### {title}\n\n{table(('Field', 'Label'), rows)}")
    return "\n\n".join(chapters)
