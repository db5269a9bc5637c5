"""The etcd client."""

from __future__ import annotations

import asyncio
import threading
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Self

from hastack import context
from hastack._core._errors import ClosedError, LeaseLost, NotAuthorized
from hastack._core._fork import renew_in_child
from hastack._core._portal import PORTAL
from hastack._core._validate import integer, seconds
from hastack.discovery._records import ClusterId, Get, RangeResult, as_bytes

from . import _wire
from ._codec import Codec
from ._options import options_of, parse_url
from ._shared import Shared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from types import TracebackType

    from hastack._config._secret import Secret
    from hastack._core._validate import Seconds
    from hastack.discovery._records import (
        Compare,
        DeleteResult,
        Key,
        KeyValue,
        Op,
        PutResult,
        TxnResult,
    )
    from hastack.discovery._store import Kept, Lease, Watch

    from ._admin import Auth, Cluster, Maintenance
    from ._codec import Sort, Txn
    from ._lease import LeaseKeeper
    from ._options import TLS, Options
    from ._sync import SyncClient
    from ._transport import Transport
    from ._watch import WatchHub

# What belongs to the parent is kept, unused, in a forked child: grpc's destructors would talk to
# threads that are not there.
_forgotten: list[object] = []


class Client:
    """A client of an etcd v3 cluster; implements `hastack.discovery.Store`.

    Nothing is connected until the first call. Calls of coroutines run on their own event loop,
    whichever that is; one client serves any number of loops and threads at once. Watches and
    leases run on the process's background loop.

    Args:
        endpoints: ``"host:port"``, several with commas between them, or an iterable of such.
        namespace: Prefix of all keys; no method shows it.
        user: User name, for a cluster with authentication.
        password: Its password.
        tls: Certificates, or ``True`` for those of the system.
        timeout: Seconds that a call without ``timeout=`` may take, retries included.
        max_txn_ops: The servers' ``--max-txn-ops``.
        max_request_bytes: The servers' ``--max-request-bytes``.

    Raises:
        InvalidArgument: An argument is not what its name asks for.

    Example:
        >>> from hastack.discovery import etcd
        >>> client = etcd.Client("10.0.0.1:2379,10.0.0.2:2379", namespace="shop/")
        >>> client
        <etcd.Client 10.0.0.1:2379,10.0.0.2:2379 namespace=b'shop/'>
    """

    def __init__(
        self,
        endpoints: str | Iterable[str],
        *,
        namespace: str | bytes = "",
        user: str | None = None,
        password: str | Secret | None = None,
        tls: TLS | bool | None = None,
        timeout: Seconds = 5.0,
        max_txn_ops: int = 128,
        max_request_bytes: int = 1_572_864,
    ) -> None:
        self._set_up(
            options_of(
                endpoints,
                namespace=namespace,
                user=user,
                password=password,
                tls=tls,
                timeout=timeout,
                max_txn_ops=max_txn_ops,
                max_request_bytes=max_request_bytes,
            )
        )

    def _set_up(self, options: Options) -> None:
        self._shared = Shared(options)
        self._codec = Codec(options.namespace, options.max_txn_ops)
        self._lock = threading.Lock()
        self._transports: dict[asyncio.AbstractEventLoop, Transport] = {}
        self._hub: WatchHub | None = None
        self._keeper: LeaseKeeper | None = None
        scheme = "etcd" if options.tls is None else "etcds"
        name = options.namespace.decode(errors="backslashreplace")
        self.url = f"{scheme}://{','.join(options.endpoints)}/{name}"
        renew_in_child(self)

    def __repr__(self) -> str:
        options = self._shared.options
        name = f" namespace={options.namespace!r}" if options.namespace else ""
        return f"<etcd.Client {','.join(options.endpoints)}{name}>"

    # Keys

    async def get(
        self,
        key: Key,
        *,
        revision: int = 0,
        serializable: bool = False,
        timeout: float | None = None,
    ) -> KeyValue | None:
        """One key, or ``None`` when it is not there.

        Args:
            key: The key.
            revision: Read the past; 0 for the newest revision.
            serializable: Let the endpoint answer from what it has, perhaps late, without asking
                the cluster.
            timeout: Seconds; the client's by default.

        Raises:
            Compacted: ``revision`` is no longer kept.
            StoreError: See `hastack.errors`.
        """
        request = _wire.RangeRequest(key=self._codec.single(key))
        if revision or serializable:
            request.revision = integer("revision", revision, minimum=0)
            request.serializable = serializable
        answer = await self._transport().call(
            _wire.RANGE, request, timeout=timeout, idempotent=True
        )
        return self._codec.key_value(answer.kvs[0]) if answer.kvs else None

    async def range(
        self,
        key: Key,
        *,
        end: bytes | None = None,
        prefix: bool = False,
        revision: int = 0,
        limit: int = 0,
        sort: Sort = "key",
        descending: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        serializable: bool = False,
        timeout: float | None = None,
    ) -> RangeResult:
        r"""Keys of a range, in one answer; see `scan` for ranges that may be large.

        Args:
            key: First key, or the prefix. An empty one with ``prefix`` or ``end`` is the first of
                all.
            end: First key after the range; ``b"\0"`` for no end. Without it, and without
                ``prefix``, the range is the one key.
            prefix: All keys that begin with ``key``.
            revision: Read the past; 0 for the newest revision.
            limit: Most keys to hand out; 0 for all.
            sort: What to sort by. The limit is applied after sorting.
            descending: Largest first.
            keys_only: Leave the values out.
            count_only: Only count.
            serializable: Let the endpoint answer from what it has, perhaps late, without asking
                the cluster.
            timeout: Seconds; the client's by default.

        Raises:
            Compacted: ``revision`` is no longer kept.
            InvalidArgument: An argument is not what its name asks for.
            StoreError: See `hastack.errors`.
        """
        request = self._codec.range_request(
            key,
            end,
            prefix=prefix,
            sort=sort,
            descending=descending,
            revision=revision,
            limit=limit,
            keys_only=keys_only,
            count_only=count_only,
            serializable=serializable,
        )
        answer = await self._transport().call(
            _wire.RANGE, request, timeout=timeout, idempotent=True
        )
        return self._codec.range_result(answer)

    async def scan(
        self, prefix: Key, *, page: int = 1000, revision: int = 0, keys_only: bool = False
    ) -> AsyncIterator[KeyValue]:
        """All keys under ``prefix`` as of one revision, however many pages it takes.

        The first page decides the revision, the others are read at it; nothing is locked
        meanwhile.

        Args:
            prefix: The prefix; empty for all keys.
            page: Keys per request, and the most that are held at once.
            revision: The revision to read at; 0 for the newest.
            keys_only: Leave the values out.

        Raises:
            Compacted: The revision was compacted before the scan was through. What was handed out
                is right as of that revision; begin again for the rest.
            StoreError: See `hastack.errors`.
        """
        async for result in self._pages(prefix, page=page, revision=revision, keys_only=keys_only):
            for kv in result.kvs:
                yield kv

    async def _pages(
        self, prefix: Key, *, page: int, revision: int = 0, keys_only: bool = False
    ) -> AsyncIterator[RangeResult]:
        """The answers of a scan; the ``revision`` of each is the one that is read at."""
        first, last = self._codec.span(prefix, prefix=True)
        integer("page", page)
        integer("revision", revision, minimum=0)
        while True:
            request = _wire.RangeRequest(
                key=first, range_end=last, revision=revision, limit=page, keys_only=keys_only
            )
            answer = await self._transport().call(_wire.RANGE, request, idempotent=True)
            revision = revision or answer.header.revision
            result = self._codec.range_result(answer)
            yield RangeResult(result.kvs, result.count, result.more, revision)
            if not answer.more:
                return
            first = answer.kvs[-1].key + b"\0"

    async def put(
        self,
        key: Key,
        value: Key,
        *,
        lease: int | Lease = 0,
        prev: bool = False,
        timeout: float | None = None,
    ) -> PutResult:
        """Set a key.

        Args:
            key: The key; not empty.
            value: Its value.
            lease: The lease to hang it on, or its id; 0 for none, whatever it hung on before.
            prev: Hand out what the key held before.
            timeout: Seconds; the client's by default.

        Raises:
            LeaseLost: There is no such lease.
            StoreUnavailable: No endpoint answered. With ``indeterminate``, the key may have been
                set all the same; a put that was not sent is repeated elsewhere by itself.
            StoreError: See `hastack.errors`.
        """
        number = lease if isinstance(lease, int) else lease.id
        request = _wire.PutRequest(
            key=self._codec.single(key),
            value=as_bytes("value", value),
            lease=number,
            prev_kv=prev,
        )
        try:
            answer = await self._transport().call(_wire.PUT, request, timeout=timeout)
        except LeaseLost as error:
            error.lease = number
            raise
        return self._codec.put_result(answer)

    async def delete(
        self,
        key: Key,
        *,
        end: bytes | None = None,
        prefix: bool = False,
        prev: bool = False,
        timeout: float | None = None,
    ) -> DeleteResult:
        """Delete a key or a range; see `range` for the arguments.

        Args:
            key: The key, first key or prefix.
            end: First key after the range.
            prefix: All keys that begin with ``key``.
            prev: Hand out what was deleted.
            timeout: Seconds; the client's by default.

        Raises:
            StoreUnavailable: No endpoint answered. With ``indeterminate``, the keys may be gone all
                the same.
            StoreError: See `hastack.errors`.
        """
        first, last = self._codec.span(key, end, prefix=prefix)
        request = _wire.DeleteRangeRequest(key=first, range_end=last, prev_kv=prev)
        answer = await self._transport().call(_wire.DELETE_RANGE, request, timeout=timeout)
        return self._codec.delete_result(answer)

    async def txn(
        self,
        compare: Sequence[Compare],
        then: Sequence[Op | Txn],
        otherwise: Sequence[Op | Txn] = (),
        *,
        timeout: float | None = None,
    ) -> TxnResult:
        """Run ``then`` if all conditions hold and ``otherwise`` if not, in one step.

        A transaction that changes something makes one revision. It may not change a key twice.

        Args:
            compare: The conditions; none always hold.
            then: Operations when all hold.
            otherwise: Operations when one does not.
            timeout: Seconds; the client's by default.

        Raises:
            RequestTooLarge: More than 128 conditions, or operations in a branch (the server's
                ``--max-txn-ops``). Nothing was sent: splitting it would not be one step any more,
                so that is the caller's to decide.
            StoreUnavailable: No endpoint answered. With ``indeterminate``, it may have been applied
                all the same.
            StoreError: See `hastack.errors`.
        """
        request = self._codec.txn_request(compare, then, otherwise)
        # Without writes it may be sent twice like any other read.
        reads = all(isinstance(each, Get) for each in (*then, *otherwise))
        answer = await self._transport().call(_wire.TXN, request, timeout=timeout, idempotent=reads)
        return self._codec.txn_result(answer)

    async def identity(self, *, timeout: float | None = None) -> ClusterId:
        """Which cluster this is, and its newest revision.

        Raises:
            StoreError: See `hastack.errors`.
        """
        request = _wire.RangeRequest(key=self._codec.namespace or b"\0", count_only=True)
        try:
            answer = await self._transport().call(
                _wire.RANGE, request, timeout=timeout, idempotent=True
            )
        except NotAuthorized:
            # Not that key, then. A member's status needs no permission; its revision may lag.
            answer = await self._transport().call(
                _wire.STATUS, _wire.StatusRequest(), timeout=timeout, idempotent=True
            )
        return ClusterId(answer.header.cluster_id, answer.header.revision)

    async def compact(self, revision: int, *, timeout: float | None = None) -> None:
        """Forget what was before ``revision``; see `Maintenance.compact` for more."""
        await self.maintenance.compact(revision, timeout=timeout)

    # Leases by hand; `lease` and `keep` renew by themselves

    async def grant(self, ttl: Seconds, *, timeout: float | None = None) -> int:
        """A raw lease, which ends after ``ttl`` seconds without `renew`; hands out its id.

        The server counts in whole seconds, rounded up here, and has a least TTL of its own.
        """
        request = _wire.LeaseGrantRequest(TTL=ceil(seconds("ttl", ttl)))
        answer = await self._transport().call(_wire.LEASE_GRANT, request, timeout=timeout)
        lease: int = answer.ID
        return lease

    async def renew(self, lease: int, *, timeout: float | None = None) -> float:
        """Begin the time of a lease anew; hands out its TTL in seconds.

        Raises:
            LeaseLost: There is no such lease.
        """
        limit = self._shared.options.timeout if timeout is None else timeout
        async with context.timeout(limit):
            stream = await self._transport().stream(_wire.LEASE_KEEP_ALIVE)
            try:
                await stream.write(_wire.LeaseKeepAliveRequest(ID=lease))
                ttl: int = (await stream.read()).TTL
            finally:
                stream.cancel()
        if ttl <= 0:
            raise LeaseLost("requested lease not found", lease=lease)
        return float(ttl)

    async def revoke(self, lease: int, *, timeout: float | None = None) -> None:
        """End a lease and delete what hangs on it.

        Raises:
            LeaseLost: There is no such lease.
        """
        request = _wire.LeaseRevokeRequest(ID=lease)
        try:
            await self._transport().call(_wire.LEASE_REVOKE, request, timeout=timeout)
        except LeaseLost as error:
            error.lease = lease
            raise

    # More faces

    @cached_property
    def sync(self) -> SyncClient:
        """The same calls for threads: each blocks until its answer is there."""
        from ._sync import SyncClient

        return SyncClient(self)

    @cached_property
    def cluster(self) -> Cluster:
        """The members of the cluster."""
        from ._admin import Cluster

        return Cluster(self)

    @cached_property
    def maintenance(self) -> Maintenance:
        """The data of the cluster and of single members."""
        from ._admin import Maintenance

        return Maintenance(self)

    @cached_property
    def auth(self) -> Auth:
        """Users and roles."""
        from ._admin import Auth

        return Auth(self)

    # Watches and leases

    def watch(
        self,
        key: Key,
        *,
        prefix: bool = False,
        start_revision: int | None = None,
        prev: bool = False,
        buffer: int = 10_000,
    ) -> Watch:
        first, last = self._codec.span(key, prefix=prefix)
        return self._watch_hub().watch(first, last, start_revision, prev, buffer)

    def lease(self, ttl: float) -> Lease:
        return self._lease_keeper().lease(ttl)

    def keep(self, key: Key, value: Key, *, ttl: float) -> Kept:
        return self._lease_keeper().keep(key, value, ttl)

    def _watch_hub(self) -> WatchHub:
        """The watches of this client, one stream for all."""
        with self._lock:
            self._check_open()
            if self._hub is None:
                from ._watch import WatchHub

                self._hub = WatchHub(self)
            return self._hub

    def _lease_keeper(self) -> LeaseKeeper:
        """The leases of this client, one stream for all."""
        with self._lock:
            self._check_open()
            if self._keeper is None:
                from ._lease import LeaseKeeper

                self._keeper = LeaseKeeper(self)
            return self._keeper

    # Connections

    def _transport(self) -> Transport:
        """The connections of the running loop."""
        transport = self._transports.get(asyncio.get_running_loop())
        return self._new_transport() if transport is None else transport

    def _new_transport(self) -> Transport:
        from ._transport import Transport

        loop = asyncio.get_running_loop()
        with self._lock:
            self._check_open()
            # A transport holds on to its loop: those of loops that have ended go when a new comes.
            for other in [each for each in self._transports if each.is_closed()]:
                del self._transports[other]
            transport = self._transports[loop] = Transport(self._shared, loop)
            return transport

    def _check_open(self) -> None:
        if self._shared.closed:
            raise ClosedError("etcd client")

    async def aclose(self) -> None:
        """End watches and leases, close all connections; calls that wait raise `ClosedError`."""
        with self._lock:
            self._shared.closed = True
            hub, keeper = self._hub, self._keeper
            transports, self._transports = self._transports, {}
            self._hub = self._keeper = None
        try:
            for background in (hub, keeper):
                if background is not None:
                    await background.aclose()
        finally:
            here = asyncio.get_running_loop()
            for loop, transport in transports.items():
                if loop is here:
                    await transport.aclose()
                elif loop is PORTAL._loop:
                    await PORTAL.run(transport.aclose())
                elif not loop.is_closed():
                    asyncio.run_coroutine_threadsafe(transport.aclose(), loop)

    async def __aenter__(self) -> Self:
        from . import _channel

        self._check_open()
        if not _channel.loaded():
            await asyncio.to_thread(_channel.load)  # the loop goes on meanwhile
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _after_fork(self) -> None:
        _forgotten.extend((self._transports, self._hub, self._keeper))
        self._lock = threading.Lock()
        self._transports = {}
        self._hub = self._keeper = None


def connect(url: str) -> Client:
    """A client for ``etcd://user:password@host:2379,host2:2379/namespace``.

    ``etcds://`` speaks TLS with the authorities of the system; a port left out is 2379; user,
    password and namespace are percent-encoded. Nothing is connected until the first call.

    Raises:
        InvalidArgument: It is no such URL. The message does not show the password.

    Example:
        >>> from hastack.discovery import etcd
        >>> etcd.connect("etcd://10.0.0.1,10.0.0.2:2380/shop%2F")
        <etcd.Client 10.0.0.1:2379,10.0.0.2:2380 namespace=b'shop/'>
    """
    client = Client.__new__(Client)
    client._set_up(parse_url(url))
    return client
