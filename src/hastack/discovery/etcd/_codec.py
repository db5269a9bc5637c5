"""Records of discovery to and from the messages of etcd, with the namespace put on and taken off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import attrs

from hastack._core._errors import InvalidArgument, RequestTooLarge
from hastack._core._validate import integer
from hastack.discovery._records import (
    Delete,
    DeleteResult,
    Get,
    KeyValue,
    Put,
    PutResult,
    RangeResult,
    TxnResult,
    as_bytes,
    prefix_end,
)

from . import _wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hastack.discovery._records import Compare, Key, Op, OpResult

_new = object.__new__
_set_key: Any = KeyValue.key.__set__  # type: ignore[attr-defined]  # the descriptor of a slot
_set_value: Any = KeyValue.value.__set__  # type: ignore[attr-defined]
_set_create_revision: Any = KeyValue.create_revision.__set__  # type: ignore[attr-defined]
_set_mod_revision: Any = KeyValue.mod_revision.__set__  # type: ignore[attr-defined]
_set_version: Any = KeyValue.version.__set__  # type: ignore[attr-defined]
_set_lease: Any = KeyValue.lease.__set__  # type: ignore[attr-defined]

Sort: TypeAlias = Literal["key", "version", "create_revision", "mod_revision", "value"]
"""What the keys of a range can be sorted by."""

__all__ = ("Codec", "Txn")

_TO_THE_LAST = b"\0"
_SORTS = {"key": 0, "version": 1, "create_revision": 2, "mod_revision": 3, "value": 4}
_RELATIONS = {"==": 0, ">": 1, "<": 2, "!=": 3}
_TARGETS = {"version": 0, "create_revision": 1, "mod_revision": 2, "value": 3, "lease": 4}


@final
@attrs.frozen
class Txn:
    """A transaction inside a transaction; its result is a `hastack.discovery.TxnResult`.

    Attributes:
        compare: Conditions; all must hold for ``then`` to run.
        then: Operations when they hold.
        otherwise: Operations when they do not.

    Example:
        >>> from hastack.discovery import Compare, Put
        >>> from hastack.discovery import etcd
        >>> inner = etcd.Txn([Compare.absent("/b")], [Put("/b", "1")])
        >>> len(inner.then), inner.otherwise
        (1, ())
    """

    compare: Sequence[Compare]
    then: Sequence[Op | Txn]
    otherwise: Sequence[Op | Txn] = ()


@final
class Codec:
    """Encodes for one namespace: every key of a client begins with it, and no caller sees it."""

    __slots__ = ("_cut", "max_txn_ops", "namespace")

    def __init__(self, namespace: bytes, max_txn_ops: int = 128) -> None:
        self.namespace = namespace
        self.max_txn_ops = max_txn_ops
        self._cut = len(namespace)

    def outer(self, key: Key, parameter: str = "key") -> bytes:
        """The key as etcd knows it."""
        return self.namespace + as_bytes(parameter, key)

    def inner(self, key: bytes) -> bytes:
        """The key as the caller knows it."""
        return key[self._cut :]

    def span(
        self, key: Key, end: bytes | None = None, *, prefix: bool = False
    ) -> tuple[bytes, bytes]:
        """First key and end of a range as etcd knows them; an empty end means the one key.

        Raises:
            InvalidArgument: Both ``end`` and ``prefix`` are given, or the key is empty and no
                prefix.
        """
        first = as_bytes("key", key)
        if prefix:
            if end is not None:
                raise InvalidArgument("end", end, "None together with prefix=True")
            whole = self.namespace + first
            return (whole, prefix_end(whole)) if whole else (b"\0", _TO_THE_LAST)
        if end is None:
            return self.single(first), b""
        last = as_bytes("end", end)
        if last == _TO_THE_LAST:
            last = prefix_end(self.namespace) if self.namespace else _TO_THE_LAST
        elif not last:
            raise InvalidArgument("end", end, r"a key that is not empty; b'\0' for no end")
        else:
            last = self.namespace + last
        return self.namespace + first or b"\0", last

    def single(self, key: Key) -> bytes:
        """One key as etcd knows it."""
        first = as_bytes("key", key)
        if not first:
            raise InvalidArgument("key", key, "a key that is not empty")
        return self.namespace + first

    def range_request(
        self,
        key: Key,
        end: bytes | None,
        *,
        prefix: bool,
        sort: Sort,
        descending: bool,
        revision: int = 0,
        limit: int = 0,
        **others: Any,
    ) -> Any:
        """The message for a range request."""
        integer("revision", revision, minimum=0)
        integer("limit", limit, minimum=0)
        first, last = self.span(key, end, prefix=prefix)
        for name in ("limit", "revision"):
            integer(name, others.get(name, 0), minimum=0)
        target = _SORTS.get(sort)
        if target is None:
            raise InvalidArgument("sort", sort, ", ".join(_SORTS))
        # Keys come sorted; asking for it again would have the server fetch all of them first.
        order = 0 if sort == "key" and not descending else 2 if descending else 1
        return _wire.RangeRequest(
            key=first,
            range_end=last,
            revision=revision,
            limit=limit,
            sort_target=target,
            sort_order=order,
            **others,
        )

    # Answers

    def key_value(self, kv: Any) -> KeyValue:
        """A key as it came."""
        # What __init__ of a frozen class does, in a third of the time.
        found = _new(KeyValue)
        _set_key(found, kv.key[self._cut :])
        _set_value(found, kv.value)
        _set_create_revision(found, kv.create_revision)
        _set_mod_revision(found, kv.mod_revision)
        _set_version(found, kv.version)
        _set_lease(found, kv.lease)
        return found

    def range_result(self, answer: Any, revision: int = 0) -> RangeResult:
        """The answer to a range request; those inside a transaction have no header."""
        return RangeResult(
            tuple(map(self.key_value, answer.kvs)),
            answer.count,
            answer.more,
            answer.header.revision or revision,
        )

    def put_result(self, answer: Any, revision: int = 0) -> PutResult:
        """The answer to a put."""
        prev = self.key_value(answer.prev_kv) if answer.HasField("prev_kv") else None
        return PutResult(answer.header.revision or revision, prev)

    def delete_result(self, answer: Any, revision: int = 0) -> DeleteResult:
        """The answer to a delete."""
        return DeleteResult(
            answer.deleted,
            answer.header.revision or revision,
            tuple(map(self.key_value, answer.prev_kvs)),
        )

    def txn_result(self, answer: Any, revision: int = 0) -> TxnResult:
        """The answer to a transaction."""
        revision = answer.header.revision or revision
        results = tuple(self._op_result(each, revision) for each in answer.responses)
        return TxnResult(answer.succeeded, results, revision)

    def _op_result(self, response: Any, revision: int) -> OpResult:
        kind = response.WhichOneof("response")
        if kind == "response_put":
            return self.put_result(response.response_put, revision)
        if kind == "response_range":
            return self.range_result(response.response_range, revision)
        if kind == "response_txn":
            return self.txn_result(response.response_txn, revision)
        return self.delete_result(response.response_delete_range, revision)

    # Requests

    def txn_request(
        self,
        compare: Sequence[Compare],
        then: Sequence[Op | Txn],
        otherwise: Sequence[Op | Txn],
    ) -> Any:
        """The message for a transaction.

        Raises:
            RequestTooLarge: There are more conditions, or operations in one branch, than the
                server takes.
        """
        request = _wire.TxnRequest()
        self._fill(request, compare, then, otherwise)
        return request

    def _fill(
        self,
        request: Any,
        compare: Sequence[Compare],
        then: Sequence[Op | Txn],
        otherwise: Sequence[Op | Txn],
    ) -> None:
        # Messages are filled where they stand: one that is given to a constructor is copied.
        most = max(len(compare), len(then), len(otherwise))
        if most > self.max_txn_ops:
            raise RequestTooLarge("operations", most, self.max_txn_ops)
        for condition in compare:
            found = request.compare.add()
            found.key = self.namespace + condition.key
            found.target = _TARGETS[condition.target]
            found.result = _RELATIONS[condition.relation]
            setattr(found, condition.target, condition.value)
        for op in then:
            self._fill_op(request.success.add(), op)
        for op in otherwise:
            self._fill_op(request.failure.add(), op)

    def _fill_op(self, request: Any, op: Op | Txn) -> None:
        if isinstance(op, Put):
            put = request.request_put
            put.key = self.single(op.key)
            put.value = op.value
            if op.lease:
                put.lease = op.lease
            if op.prev:
                put.prev_kv = True
        elif isinstance(op, Get):
            get = request.request_range
            get.key, get.range_end = self.span(op.key, op.end)
            if op.limit:
                get.limit = op.limit
        elif isinstance(op, Delete):
            delete = request.request_delete_range
            delete.key, delete.range_end = self.span(op.key, op.end)
            if op.prev:
                delete.prev_kv = True
        elif isinstance(op, Txn):
            request.request_txn.SetInParent()  # also when it has nothing in it
            self._fill(request.request_txn, op.compare, op.then, op.otherwise)
        else:
            raise InvalidArgument("op", op, "a Put, a Delete, a Get or an etcd.Txn")
