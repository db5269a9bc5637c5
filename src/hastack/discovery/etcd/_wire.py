"""The messages of etcd, in a descriptor pool of their own.

Every Python etcd client registers ``kv.proto`` or ``mvccpb.KeyValue`` in protobuf's default pool,
and the second one to be imported fails. hastack ships its descriptors as data and loads them, with
the first message that is named, into a private pool.

``_wire.RangeRequest`` is the class of that message; the other names are method paths.
"""

from __future__ import annotations

import pkgutil
from typing import Any

from hastack._core._extras import require

RANGE = "/etcdserverpb.KV/Range"
PUT = "/etcdserverpb.KV/Put"
DELETE_RANGE = "/etcdserverpb.KV/DeleteRange"
TXN = "/etcdserverpb.KV/Txn"
COMPACT = "/etcdserverpb.KV/Compact"
WATCH = "/etcdserverpb.Watch/Watch"
LEASE_GRANT = "/etcdserverpb.Lease/LeaseGrant"
LEASE_REVOKE = "/etcdserverpb.Lease/LeaseRevoke"
LEASE_KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
LEASE_TIME_TO_LIVE = "/etcdserverpb.Lease/LeaseTimeToLive"
LEASE_LEASES = "/etcdserverpb.Lease/LeaseLeases"
AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"
STATUS = "/etcdserverpb.Maintenance/Status"
SNAPSHOT = "/etcdserverpb.Maintenance/Snapshot"

# What was loaded: classes by simple name, and classes of answers by method.
_loaded: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}


def _tables() -> tuple[dict[str, Any], dict[str, Any]]:
    """Classes by simple name, and of answers by method; the same for all threads.

    Several threads may load at once, but one result serves all: a message of one pool is none of
    another's.
    """
    found = _loaded.get("")
    return _loaded.setdefault("", _load()) if found is None else found


def _load() -> tuple[dict[str, Any], dict[str, Any]]:
    """Fill a private pool and make the classes.

    Raises:
        MissingDependency: protobuf is not installed.
    """
    pools = require("google.protobuf.descriptor_pool", extra="etcd")
    factory = require("google.protobuf.message_factory", extra="etcd")
    sets = require("google.protobuf.descriptor_pb2", extra="etcd")
    data = pkgutil.get_data("hastack.discovery.etcd", "proto.binpb")
    assert data is not None
    pool = pools.DescriptorPool()
    files = sets.FileDescriptorSet.FromString(data).file
    for file in files:
        pool.Add(file)
    classes: dict[str, Any] = {}
    responses: dict[str, Any] = {}
    for file in files:
        for message in file.message_type:
            name = f"{file.package}.{message.name}"
            classes[message.name] = factory.GetMessageClass(pool.FindMessageTypeByName(name))
        for service in file.service:
            for method in service.method:
                path = f"/{file.package}.{service.name}/{method.name}"
                responses[path] = classes[method.output_type.rpartition(".")[2]]
    return classes, responses


def response(method: str) -> Any:
    """The class of a method's answer, by the method's path."""
    return _tables()[1][method]


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = _tables()[0][name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    globals()[name] = found  # the next time it is found without coming here
    return found
