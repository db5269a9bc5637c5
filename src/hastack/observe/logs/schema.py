"""Schemas that infer themselves: which fields the records of a format have, and of which types.

A sample of records votes on the type of each field, one format at a time. What the schema then says
is made true of every record; a value that breaks its type stays as it is and is counted.
`hastack.observe.logs.tracking` notices when the records have become something else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from hastack._core import _validate
from hastack._core._errors import InvalidArgument
from hastack._core._whole_file import replace

from ._convert import Converter, Outcome
from ._export_arrow import arrow_schema
from ._export_columns import Column, columns_of, row_of
from ._export_json import json_schema
from ._export_sql import NAME_BYTES, clickhouse, postgresql
from ._sample import Reservoir
from ._schema_cache import SchemaCache
from ._schema_diff import FieldChange, SchemaDiff, compare
from ._schema_fields import Count, SchemaField, fields_of, writes_numbers
from ._value_types import COLUMN_TYPES, TYPES
from ._vote import Verdict, vote, wilson

if TYPE_CHECKING:
    from ._protocols import BatchLike, FormatLike, ParserLike, Record

__all__ = (
    "Applied",
    "FieldChange",
    "Schema",
    "SchemaCache",
    "SchemaDiff",
    "SchemaField",
    "Schemas",
    "Verdict",
    "fingerprint",
    "infer",
    "vote",
    "wilson",
)

_PLAIN: Final = "record"  # the format of records that come without one
_LINES: Final = 10  # times the sample are parsed, so that rarer formats get theirs
_MADE: Final = frozenset({"_converter", "_columns"})
_NAMED: Final = 64  # fields of one call that are named in its result


@final
@attrs.frozen
class Applied:
    """What a schema did to records.

    Attributes:
        records: How many there were.
        broken: How many values broke the type of their field and stayed as they were, by field.
        unknown: How often fields had values of which the schema knows nothing, by field; of a
            large batch only a part is looked at.
    """

    records: int = 0
    broken: Mapping[str, int] = attrs.field(factory=dict)
    unknown: Mapping[str, int] = attrs.field(factory=dict)


def _in_a_tuple(fields: Iterable[SchemaField]) -> tuple[SchemaField, ...]:
    return tuple(fields)


@final
@attrs.frozen(kw_only=True, slots=False)
class Schema:
    """The fields of one format, in one version.

    Args:
        format: Name of the format.
        fields: The fields, an object before those inside of it.
        version: From 1; drift counts it up.
        records: How many records were looked at.
        numbers: Whether texts in new fields may be numbers: not where the format writes numbers.
        pinned: Whether drift is only counted.
        fingerprint: Of the format, see `fingerprint`.

    Raises:
        InvalidArgument: A field is there twice, outside of an object, or of no known type.

    Example:
        >>> from hastack.observe import logs
        >>> records = [{"status": "200", "took": "0.5"}, {"status": "404", "took": "2"}] * 50
        >>> schema = logs.infer({"app": records})["app"]
        >>> [(field.name, field.type) for field in schema.fields]
        [('status', 'int'), ('took', 'float')]
        >>> record = {"status": "500", "took": "soon"}
        >>> schema.apply([record]).broken, record
        ({'took': 1}, {'status': 500, 'took': 'soon'})
    """

    format: str
    fields: tuple[SchemaField, ...] = attrs.field(converter=_in_a_tuple)
    version: int = 1
    records: int = 0
    numbers: bool = True
    pinned: bool = False
    fingerprint: str = ""

    def __attrs_post_init__(self) -> None:
        objects: set[tuple[str, ...]] = {()}
        seen = set()
        for field in self.fields:
            if field.path in seen or field.path[:-1] not in objects or not field.path:
                raise InvalidArgument("fields", field.path, "each path once, inside of an object")
            if field.type not in TYPES:
                raise InvalidArgument("fields", field.type, f"one of {', '.join(TYPES)}")
            seen.add(field.path)
            if field.type == "object":
                objects.add(field.path)

    @cached_property
    def _converter(self) -> Converter:
        return Converter(self.fields)

    def __getstate__(self) -> dict[str, Any]:
        # What is written for this process stays in it.
        return {name: value for name, value in self.__dict__.items() if name not in _MADE}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def apply(self, records: Sequence[Record]) -> Applied:
        """Make the values of records what the schema says, where they are.

        A value that breaks its type stays as it is. Texts that mean nothing, such as ``-``, become
        ``None`` except in fields of texts; everything becomes a text in those.

        Args:
            records: Changed in place; values only, no field is added or taken away.
        """
        return applied(self._converter, self._converter.run(records))

    def field(self, path: str | tuple[str, ...]) -> SchemaField:
        """The field of a name, or of the keys that lead to it.

        Raises:
            KeyError: There is none. Of ``a.b`` as one key and as two, the one key comes first.
        """
        wanted = (path,) if isinstance(path, str) else tuple(path)
        for field in self.fields:
            if field.path == wanted:
                return field
        for field in self.fields:
            if field.name == path:
                return field
        raise KeyError(path)

    @property
    def columns(self) -> tuple[SchemaField, ...]:
        """The fields that hold values: all but objects."""
        return tuple(field for field in self.fields if field.type != "object")

    def pin(self, **types: str) -> Schema:
        """The same schema, which drift does not change, perhaps with other types.

        Args:
            **types: Name of a field and its type; others cannot be given.

        Raises:
            InvalidArgument: There is no such field, or no such type.

        Example:
            >>> from hastack.observe import logs
            >>> schema = logs.infer({"app": [{"port": "80"}]})["app"].pin(port="str")
            >>> schema.field("port").type, schema.pinned
            ('str', True)
        """
        fields = list(self.fields)
        for name, word in types.items():
            if word not in COLUMN_TYPES:
                raise InvalidArgument(name, word, f"one of {', '.join(COLUMN_TYPES)}")
            try:
                at = fields.index(self.field(name))
            except KeyError:
                raise InvalidArgument(name, word, "the name of a field") from None
            fields[at] = attrs.evolve(fields[at], type=word, items=None, declared=True)
        objects = {field.path for field in fields if field.type == "object"}
        kept = [f for f in fields if all(f.path[:n] in objects for n in range(1, len(f.path)))]
        return attrs.evolve(self, fields=kept, pinned=True)

    def diff(self, other: Schema) -> SchemaDiff:
        """What changed from this schema to another.

        Example:
            >>> from hastack.observe import logs
            >>> before = logs.infer({"app": [{"port": 80}]})["app"]
            >>> print(before.diff(logs.infer({"app": [{"port": "http", "host": "a"}]})["app"]))
            + host: str
            ~ port: int -> str
        """
        return compare(self.fields, other.fields)

    def to_data(self) -> dict[str, Any]:
        """As JSON can say it; `from_data` reads it. Examples are left out: they are data."""
        return {
            "format": self.format,
            "version": self.version,
            "fingerprint": self.fingerprint,
            "records": self.records,
            "numbers": self.numbers,
            "pinned": self.pinned,
            "fields": [
                {
                    **attrs.asdict(field, filter=lambda a, _: a.name != "examples"),
                    "path": list(field.path),
                }
                for field in self.fields
            ],
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Schema:
        """What `to_data` wrote.

        Raises:
            InvalidArgument: It is something else.
        """
        try:
            fields = [
                SchemaField(**{**field, "path": tuple(field["path"])}) for field in data["fields"]
            ]
            return cls(**{**data, "fields": fields})
        except (TypeError, KeyError, AttributeError) as error:
            raise InvalidArgument("data", data, f"a schema as to_data() has it ({error})") from None

    def row(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """A record as a row of the tables that `postgresql` and `clickhouse` define.

        Objects are taken apart into the columns of their fields; lists without a type of items, and
        what has no column or breaks its type, are JSON texts, the latter all in ``_rest``.

        Example:
            >>> from hastack.observe import logs
            >>> schema = logs.infer({"app": [{"http": {"status": 200}}]})["app"]
            >>> schema.row({"http": {"status": 404, "new": 1}})
            {'http_status': 404, '_rest': '{"http":{"new":1}}'}
        """
        return row_of(record, self._columns)

    @cached_property
    def _columns(self) -> list[Column]:
        return columns_of(self.fields, longest=NAME_BYTES)

    def json_schema(self) -> dict[str, Any]:
        """A JSON Schema (draft 2020-12) of the records as JSON lines have them.

        Example:
            >>> from hastack.observe import logs
            >>> logs.infer({"app": [{"took": 1.5}]})["app"].json_schema()["properties"]
            {'took': {'type': 'number'}}
        """
        return json_schema(self.fields, self.format)

    def arrow(self, *, flat: bool = False) -> Any:
        """A ``pyarrow.Schema``. The metadata of each field says its type in hastack's words.

        Args:
            flat: One column for each value, as `row` has them without the rest, and not structs.

        Raises:
            MissingDependency: ``hastack[arrow]`` is not installed.
        """
        return arrow_schema(self.fields, flat=flat)

    def postgresql(
        self, table: str | tuple[str, ...] | None = None, *, not_null: bool = False
    ) -> str:
        """``CREATE TABLE`` for PostgreSQL, of the columns that `row` fills.

        Args:
            table: Its name, with a dot after that of its schema; a tuple if names have dots. That of
                the format, with ``_`` for dots, if there is none.
            not_null: Demand values where there always were some; a sample is no promise.

        Raises:
            InvalidArgument: ``table`` is no name, or there are too many columns.

        Example:
            >>> from hastack.observe import logs
            >>> schema = logs.infer({"app": [{"user": "ada", "client": "10.0.0.7"}]})["app"]
            >>> print(schema.postgresql("logs.app"), end="")
            CREATE TABLE logs.app (
                "user" text,
                client inet,
                _rest jsonb
            );
        """
        return postgresql(self.fields, table or self._table, not_null=not_null)

    def clickhouse(
        self,
        table: str | tuple[str, ...] | None = None,
        *,
        order_by: Iterable[str] = (),
        not_null: bool = False,
    ) -> str:
        """``CREATE TABLE`` for ClickHouse, of the columns that `row` fills.

        IP addresses are texts: ClickHouse has no type for both kinds.

        Args:
            table: See `postgresql`; before the dot stands the database.
            order_by: Columns of the sorting key, which are never null.
            not_null: See `postgresql`; what is missing gets ClickHouse's default.

        Raises:
            InvalidArgument: ``table`` is no name, or ``order_by`` none of a column.

        Example:
            >>> from hastack.observe import logs
            >>> schema = logs.infer({"app": [{"status": 200}]})["app"]
            >>> print(schema.clickhouse("app", order_by=["status"]), end="")
            CREATE TABLE `app`
            (
                `status` Int64,
                `_rest` Nullable(String)
            )
            ENGINE = MergeTree
            ORDER BY (`status`);
        """
        wanted = (order_by,) if isinstance(order_by, str) else order_by
        return clickhouse(self.fields, table or self._table, order_by=wanted, not_null=not_null)

    @property
    def _table(self) -> tuple[str, ...]:
        return (self.format.replace(".", "_"),)

    def describe(self) -> str:
        """A table for people: fields, types, confidence, examples."""
        rows = [("field", "type", "null", "share", "at least", "examples")]
        for field in self.fields:
            word = f"{field.type}<{field.items}>" if field.items else field.type
            share = f"{field.share:.0%}" if field.values else ""
            bound = f"{field.confidence:.0%}" if field.values else ""
            null = "yes" if field.nullable else ""
            rows.append((field.name, word, null, share, bound, ", ".join(field.examples)))
        widths = [max(len(row[at]) for row in rows) for at in range(5)]
        lines = [
            "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[5]])
            for row in rows
        ]
        head = f"{self.format}, version {self.version}, {self.records} records"
        return "\n".join([head, *(line.rstrip() for line in lines)])


def applied(converter: Converter, outcome: Outcome) -> Applied:
    fields = converter.fields
    unknown: dict[str, int] = {}
    for number, record in outcome.strange:
        level = converter.levels[number]
        for key in record:
            if key not in level.names:
                name = ".".join((*level.path, str(key)))
                if name in unknown or len(unknown) < _NAMED:
                    unknown[name] = unknown.get(name, 0) + 1
    broken: dict[str, int] = {}
    for at, values in sorted(outcome.broken.items()):
        # A field of which nothing was seen has no type that a value could break.
        into = unknown if fields[at].type == "null" else broken
        into[fields[at].name] = len(values)
    return Applied(outcome.records, broken, unknown)


def fingerprint(format: str | FormatLike) -> str:  # noqa: A002  # the field's own word
    """What tells formats apart: the name, and the fields that the grammar knows with their types.

    Example:
        >>> from hastack.observe import logs
        >>> len(logs.fingerprint("json"))
        16
    """
    name = format if isinstance(format, str) else format.name
    fields = {} if isinstance(format, str) else dict(format.fields)
    text = json.dumps([name, sorted(fields.items())])
    return blake2b(text.encode(), digest_size=8).hexdigest()


@final
class Schemas(Mapping[str, Schema]):
    """The schemas of several formats, by name.

    Args:
        schemas: One for each format.

    Raises:
        InvalidArgument: Two are of the same format.
    """

    __slots__ = ("_schemas",)

    def __init__(self, schemas: Iterable[Schema] = ()) -> None:
        self._schemas: dict[str, Schema] = {}
        for schema in schemas:
            if schema.format in self._schemas:
                raise InvalidArgument("schemas", schema.format, "one schema for each format")
            self._schemas[schema.format] = schema

    def __getitem__(self, name: str) -> Schema:
        return self._schemas[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._schemas)

    def __len__(self) -> int:
        return len(self._schemas)

    def __repr__(self) -> str:
        return f"Schemas({', '.join(f'{s.format} v{s.version}' for s in self.values())})"

    def apply(self, batch: BatchLike) -> dict[str, Applied]:
        """`Schema.apply` for the records of each format; others are left as they are."""
        return {
            name: self._schemas[name].apply(records)
            for name, (_, records) in by_format(batch).items()
            if name in self._schemas
        }

    def diff(self, other: Schemas) -> dict[str, SchemaDiff]:
        """What changed to another, by format, for those that did; a missing one has no fields."""
        found = {}
        for name in dict.fromkeys((*self, *other)):
            before = self[name].fields if name in self else ()
            after = other[name].fields if name in other else ()
            if changes := compare(before, after):
                found[name] = changes
        return found

    def describe(self) -> str:
        """A table for each format."""
        return "\n\n".join(schema.describe() for schema in self.values())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file that `load` reads: whole, or not at all."""
        data = {"hastack": "schemas", "schemas": [schema.to_data() for schema in self.values()]}
        replace(FilePath(path), json.dumps(data, indent=1).encode() + b"\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Schemas:
        """What `save` wrote.

        Raises:
            InvalidArgument: It is something else.
            OSError: It cannot be read.
        """
        try:
            data = json.loads(FilePath(path).read_text(encoding="utf-8"))
            schemas = data["schemas"]
        except (ValueError, TypeError, KeyError):
            raise InvalidArgument("path", os.fspath(path), "a file that save() wrote") from None
        return cls(map(Schema.from_data, schemas))


def by_format(batch: BatchLike) -> dict[str, tuple[FormatLike, list[Record]]]:
    groups: dict[str, tuple[FormatLike, list[Record]]] = {}
    last: FormatLike | None = None
    add: Any = None
    for form, record in zip(batch.formats, batch.records, strict=True):
        if form is not last:
            last = form
            add = groups.setdefault(form.name, (form, []))[1].append
        add(record)
    return groups


def infer(
    source: Any,
    *,
    sample: int = 100,
    seed: int = 0,
    parser: ParserLike | None = None,
    cache: SchemaCache | None = None,
) -> Schemas:
    """Find the schemas of lines or records.

    Every line has the same chance to be looked at, however many there are; the records found are
    put into groups by format, and those of each group vote on its fields: a type decides when more
    than 70 % of the values are of it, nulls left out. See `vote`.

    Args:
        source: Lines, text or bytes; records; a mapping from names of formats to records; or a
            batch of a parser. It is read to its end; records are not changed.
        sample: How many records of each format are looked at. Of lines ten times as many are
            parsed, so that formats which are rarer get theirs.
        seed: The same seed and lines give the same sample.
        parser: For lines; one that knows all formats if there is none.
        cache: Where schemas are looked up first, and kept.

    Raises:
        InvalidArgument: ``source`` is none of these, or ``sample`` is below 1.

    Example:
        >>> from hastack.observe import logs
        >>> print(logs.infer([{"took": 1}, {"took": 2.5}, {"took": None}])["record"].describe())
        record, version 1, 3 records
        field  type   null  share  at least  examples
        took   float  yes   100%   34%       1, 2.5
    """
    _validate.integer("sample", sample)
    _validate.integer("seed", seed, minimum=0)
    groups = _groups(source, sample, seed, parser)
    return Schemas(
        cached(form, records, cache) for form, records in groups.values() if records.items
    )


def cached(form: str | FormatLike, records: Reservoir, cache: SchemaCache | None) -> Schema:
    key = fingerprint(form)
    found = cache.get(key) if cache is not None else None
    if found is None:
        found = inferred(form, records.items, key)
        if cache is not None:
            cache.put(found)
    return found


def inferred(form: str | FormatLike, records: Sequence[Mapping[Any, Any]], key: str) -> Schema:
    said = {} if isinstance(form, str) else form.fields
    declared = {name: word for name, word in said.items() if word in COLUMN_TYPES}
    numbers = not writes_numbers(records, declared)
    count = Count()
    for record in records:
        count.add_record(record, numbers=numbers, declared=declared)
    return Schema(
        format=form if isinstance(form, str) else form.name,
        fields=fields_of(count, records=len(records), numbers=numbers, declared=declared),
        records=len(records),
        numbers=numbers,
        fingerprint=key,
    )


def _groups(
    source: Any, sample: int, seed: int, parser: ParserLike | None
) -> dict[str, tuple[str | FormatLike, Reservoir]]:
    groups: dict[str, tuple[str | FormatLike, Reservoir]] = {}

    def add(form: str | FormatLike, records: Iterable[object]) -> None:
        name = form if isinstance(form, str) else form.name
        if name not in groups:
            groups[name] = (form, Reservoir(sample, seed=seed))
        for record in records:
            if not isinstance(record, dict):
                raise InvalidArgument("source", record, "records that are dicts")
            groups[name][1].add(record)

    if isinstance(source, Mapping):
        for name, records in source.items():
            add(_validate.text("source", name), records)
    elif hasattr(source, "records") and hasattr(source, "formats"):
        for form, records in by_format(source).values():
            add(form, records)
    elif isinstance(source, (str, bytes)) or not isinstance(source, Iterable):
        raise InvalidArgument("source", type(source), "lines, records, or a batch of them")
    else:
        lines = Reservoir(sample * _LINES, seed=seed)
        for item in source:
            if isinstance(item, (str, bytes)):
                lines.add(item)
            else:
                add(_PLAIN, (item,))
        if lines.items:
            batch = (parser or _parser()).parse_lines(lines.items)
            for form, records in by_format(batch).values():
                add(form, records)
    return groups


def _parser() -> Any:
    from .parser import Parser

    return Parser()
