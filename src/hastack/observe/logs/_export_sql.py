"""Schemas as the definitions of tables, for PostgreSQL and for ClickHouse."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from hastack._core._errors import InvalidArgument

from ._columns import REST
from ._export_columns import columns_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ._export_columns import Column
    from ._schema_fields import SchemaField

__all__ = (
    "NAME_BYTES",
    "RESERVED",
    "clickhouse",
    "postgresql",
    "quoted_backticks",
    "quoted_double",
)

NAME_BYTES: Final = 63
"""How long a name may be in PostgreSQL (NAMEDATALEN - 1); it cuts longer ones without a word."""

RESERVED: Final = frozenset(
    [
        "all",
        "analyse",
        "analyze",
        "and",
        "any",
        "array",
        "as",
        "asc",
        "asymmetric",
        "authorization",
        "binary",
        "both",
        "case",
        "cast",
        "check",
        "collate",
        "collation",
        "column",
        "concurrently",
        "constraint",
        "create",
        "cross",
        "current_catalog",
        "current_date",
        "current_role",
        "current_schema",
        "current_time",
        "current_timestamp",
        "current_user",
        "default",
        "deferrable",
        "desc",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "false",
        "fetch",
        "for",
        "foreign",
        "freeze",
        "from",
        "full",
        "grant",
        "group",
        "having",
        "ilike",
        "in",
        "initially",
        "inner",
        "intersect",
        "into",
        "is",
        "isnull",
        "join",
        "lateral",
        "leading",
        "left",
        "like",
        "limit",
        "localtime",
        "localtimestamp",
        "natural",
        "not",
        "notnull",
        "null",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "outer",
        "overlaps",
        "placing",
        "primary",
        "references",
        "returning",
        "right",
        "select",
        "session_user",
        "similar",
        "some",
        "symmetric",
        "system_user",
        "table",
        "tablesample",
        "then",
        "to",
        "trailing",
        "true",
        "union",
        "unique",
        "user",
        "using",
        "variadic",
        "verbose",
        "when",
        "where",
        "window",
        "with",
    ]
)
"""What PostgreSQL takes for no name of a column unless it stands in quotation marks."""

_SIMPLE: Final = re.compile("[a-z_][a-z0-9_]*")
_POSTGRESQL: Final = {
    "bool": "boolean",
    "int": "bigint",
    "float": "double precision",
    "timestamp": "timestamptz",
    "duration": "double precision",
    "size": "bigint",
    "ip": "inet",
    "uuid": "uuid",
    "json": "jsonb",
}
_CLICKHOUSE: Final = {
    "bool": "Bool",
    "int": "Int64",
    "float": "Float64",
    "timestamp": "DateTime64(6, 'UTC')",
    "duration": "Float64",
    "size": "Int64",
    "uuid": "UUID",
}
_UNITS: Final = {"duration": "seconds", "size": "bytes"}


def quoted_double(name: str) -> str:
    """A name for PostgreSQL, in quotation marks if it needs them.

    Example:
        >>> quoted_double("status"), quoted_double("user"), quoted_double('a"b')
        ('status', '"user"', '"a""b"')
    """
    if _SIMPLE.fullmatch(name) and name not in RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def quoted_backticks(name: str) -> str:
    r"""A name for ClickHouse, which reads backslashes within the marks.

    Example:
        >>> print(quoted_backticks("a`b"))
        `a\`b`
    """
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def postgresql(
    fields: Sequence[SchemaField], table: str | tuple[str, ...], *, not_null: bool
) -> str:
    """``CREATE TABLE``; see `hastack.observe.logs.Schema.postgresql`."""
    lines = []
    for column in columns_of(fields, longest=NAME_BYTES):
        word = _POSTGRESQL.get(column.field.type, "text")
        if column.field.items:
            word = f"{_POSTGRESQL.get(column.field.items, 'text')}[]"
        demand = " NOT NULL" if not_null and not column.nullable else ""
        lines.append((f"{quoted_double(column.name)} {word}{demand}", column))
    head = f"CREATE TABLE {_table(table, quoted_double)} ("
    return f"{head}\n{_listed(lines, f'{REST} jsonb')}\n);\n"


def clickhouse(
    fields: Sequence[SchemaField],
    table: str | tuple[str, ...],
    *,
    order_by: Iterable[str],
    not_null: bool,
) -> str:
    """``CREATE TABLE``; see `hastack.observe.logs.Schema.clickhouse`."""
    columns = columns_of(fields, longest=NAME_BYTES)  # the same names as PostgreSQL's
    wanted = tuple(order_by)
    names = {column.name for column in columns}
    for name in wanted:
        if name not in names:
            raise InvalidArgument("order_by", name, "the name of a column")
    lines = []
    for column in columns:
        word = _CLICKHOUSE.get(column.field.type, "String")
        if column.field.items:  # an array cannot be null, its items can
            word = f"Array(Nullable({_CLICKHOUSE.get(column.field.items, 'String')}))"
        elif column.name not in wanted and (column.nullable or not not_null):
            word = f"Nullable({word})"
        lines.append((f"{quoted_backticks(column.name)} {word}", column))
    key = ", ".join(map(quoted_backticks, wanted))
    order = f"({key})" if wanted else "tuple()"
    head = f"CREATE TABLE {_table(table, quoted_backticks)}\n("
    rest = f"{quoted_backticks(REST)} Nullable(String)"
    return f"{head}\n{_listed(lines, rest)}\n)\nENGINE = MergeTree\nORDER BY {order};\n"


def _listed(lines: Sequence[tuple[str, Column]], rest: str) -> str:
    found = []
    for line, column in lines:
        unit = _UNITS.get(column.field.type)
        found.append(f"    {line},{f' -- {unit}' if unit else ''}")
    return "\n".join([*found, f"    {rest}"])


def _table(table: str | tuple[str, ...], quote: Callable[[str], str]) -> str:
    parts = tuple(table.split(".")) if isinstance(table, str) else table
    if not parts or not all(parts):
        raise InvalidArgument("table", table, "a name, or names with dots between them")
    if any("\0" in part for part in parts):
        raise InvalidArgument("table", table, "names without zeros")
    return ".".join(map(quote, parts))
