"""The tables, views and functions of the database, with the comments that they have there."""

from __future__ import annotations

from local.docs.sources import Sources, table

_RELATIONS = """
    SELECT oid, relname, relkind = 'v', coalesce(obj_description(oid), '')
    FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND relname <> 'alembic_version'
    ORDER BY relname
"""
_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod), attnotnull, coalesce(col_description(attrelid, attnum), '')
    FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_FUNCTIONS = """
    SELECT proname, pg_get_function_identity_arguments(oid), pg_get_function_result(oid), obj_description(oid)
    FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND prorettype <> 'trigger'::regtype
        AND has_function_privilege('public', oid, 'EXECUTE') AND obj_description(oid) IS NOT NULL
    ORDER BY proname
"""


def render(sources: Sources, kind: str) -> str:
    """Return the `tables`, the `views`, or the `functions` that everybody may call."""
    if kind == "functions":
        rows = sources.database.execute(_FUNCTIONS).fetchall()
        return table(
            ("Function", "Returns", "What it does"),
            [(f"`{name}({arguments})`", f"`{result}`", comment) for name, arguments, result, comment in rows],
        )
    chapters = []
    for oid, name, is_view, comment in sources.database.execute(_RELATIONS).fetchall():
        if is_view != (kind == "views"):
            continue
        columns = sources.database.execute(_COLUMNS, (oid,)).fetchall()
        rows = [
            (f"`{column}`", f"`{of_type}`" + (", required" if required else ""), about)
            for column, of_type, required, about in columns
        ]
        chapters.append(f"### {name}\n\n{comment}\n\n{table(('Column', 'Type', 'Meaning'), rows)}")
    return "\n\n".join(chapters)
