"""Which decision modules run compiled.

hastack is pure Python. A build with ``HASTACK_COMPILE=1`` also compiles the pure decision modules
from the same source with mypyc; Python then prefers the compiled file. ``HASTACK_PURE=1`` at import
time goes back to the source, to compare or to debug.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

COMPILED_MODULES = (
    "hastack.ratelimit._backoff",
    "hastack.ratelimit._breaker",
    "hastack.ratelimit._breaker_gate",
    "hastack.ratelimit._budget",
    "hastack.ratelimit._bulkhead",
    "hastack.ratelimit._decision",
    "hastack.ratelimit._failures",
    "hastack.ratelimit._gcra",
    "hastack.ratelimit._gradient",
    "hastack.ratelimit._keyed",
    "hastack.ratelimit._outcome_window",
    "hastack.ratelimit._permit",
    "hastack.ratelimit._quantile",
    "hastack.ratelimit._spacing",
    "hastack.ratelimit._state_core",
    "hastack.ratelimit._step_rule",
    "hastack.ratelimit._window_counter",
    "hastack.ratelimit._window_fixed",
    "hastack.ratelimit._window_log",
)
"""The decision modules of the hot paths, which a compiled build compiles."""

PURE_MODULES = (
    *COMPILED_MODULES,
    "hastack._config._describe",
    "hastack._config._fields",
    "hastack._config._layers",
    "hastack._config._leaves",
    "hastack._config._quantities",
    "hastack._config._secret",
    "hastack._config._settings",
    "hastack._config._structure",
    "hastack._config._toml_lines",
    "hastack._config._types",
    "hastack._health_http",
    "hastack._health_verdict",
    "hastack._lifecycle._component",
    "hastack._lifecycle._machine",
    "hastack._lifecycle._order",
    "hastack._lifecycle._report",
    "hastack._rejection",
    "hastack.contrib._asgi_answer",
    "hastack.contrib._client_address",
    "hastack.contrib._grpc_rules",
    "hastack.contrib._grpc_status",
    "hastack.contrib._http_keys",
    "hastack.contrib._http_request",
    "hastack.contrib._limit_fields",
    "hastack.discovery._coalesce",
    "hastack.discovery._endpoint",
    "hastack.discovery._forward_plan",
    "hastack.discovery._forward_settings",
    "hastack.discovery._forward_token",
    "hastack.discovery._hlc",
    "hastack.discovery._instance",
    "hastack.discovery._layout",
    "hastack.discovery._memory_frames",
    "hastack.discovery._memory_wire",
    "hastack.discovery._merge",
    "hastack.discovery._mvcc",
    "hastack.discovery._mvcc_leases",
    "hastack.discovery._mvcc_view",
    "hastack.discovery._mvcc_watch",
    "hastack.discovery._origin",
    "hastack.discovery._origin_guard",
    "hastack.discovery._outlier",
    "hastack.discovery._pick_hash",
    "hastack.discovery._pick_load",
    "hastack.discovery._pick_turns",
    "hastack.discovery._pick_zone",
    "hastack.discovery._probe_verdict",
    "hastack.discovery._records",
    "hastack.discovery._registration_rule",
    "hastack.discovery._registry_cachefile",
    "hastack.discovery._registry_changes",
    "hastack.discovery._registry_view",
    "hastack.discovery._store",
    "hastack.discovery.etcd._admin_records",
    "hastack.discovery.etcd._channel",
    "hastack.discovery.etcd._codec",
    "hastack.discovery.etcd._endpoints",
    "hastack.discovery.etcd._lease_core",
    "hastack.discovery.etcd._lease_reconcile",
    "hastack.discovery.etcd._options",
    "hastack.discovery.etcd._status",
    "hastack.discovery.etcd._watch_core",
    "hastack.discovery.etcd._watch_feed",
    "hastack.discovery.etcd._watch_fragments",
    "hastack.discovery.etcd._watch_liveness",
    "hastack.discovery.etcd._watch_records",
    "hastack.discovery.etcd._watch_subscriber",
    "hastack.discovery.etcd._watch_wire",
    "hastack.discovery.etcd._wire",
    "hastack.ebpf._btf",
    "hastack.ebpf._codec",
    "hastack.ebpf._elf",
    "hastack.ebpf._insns",
    "hastack.ebpf._kinds",
    "hastack.ebpf._perf_records",
    "hastack.ebpf._policy",
    "hastack.ebpf._ring",
    "hastack.ebpf._signing",
    "hastack.ebpf._spec",
    "hastack.ebpf._symbols",
    "hastack.ebpf._usdt",
    "hastack.ebpf._verdict",
    "hastack.observe._account",
    "hastack.observe._accumulate",
    "hastack.observe._answers",
    "hastack.observe._attribute_memory",
    "hastack.observe._attribute_text",
    "hastack.observe._compress",
    "hastack.observe._crc32c",
    "hastack.observe._encoding",
    "hastack.observe._event_mapping",
    "hastack.observe._exponential",
    "hastack.observe._flow",
    "hastack.observe._fragments",
    "hastack.observe._loki",
    "hastack.observe._loki_fields",
    "hastack.observe._loki_forms",
    "hastack.observe._loki_labels",
    "hastack.observe._loki_origin",
    "hastack.observe._mapped_format",
    "hastack.observe._metrics_walk",
    "hastack.observe._options",
    "hastack.observe._otlp_attributes",
    "hastack.observe._otlp_batch",
    "hastack.observe._otlp_lenient",
    "hastack.observe._otlp_logs",
    "hastack.observe._otlp_metrics",
    "hastack.observe._otlp_points",
    "hastack.observe._otlp_resource",
    "hastack.observe._otlp_traces",
    "hastack.observe._otlp_values",
    "hastack.observe._prometheus_accept",
    "hastack.observe._prometheus_exemplars",
    "hastack.observe._prometheus_kinds",
    "hastack.observe._prometheus_labels",
    "hastack.observe._prometheus_names",
    "hastack.observe._prometheus_numbers",
    "hastack.observe._prometheus_page",
    "hastack.observe._prometheus_series",
    "hastack.observe._prometheus_text",
    "hastack.observe._protobuf",
    "hastack.observe._queue",
    "hastack.observe._remote_forms",
    "hastack.observe._remote_series",
    "hastack.observe._remote_write",
    "hastack.observe._report",
    "hastack.observe._retry_rules",
    "hastack.observe._segments",
    "hastack.observe._series",
    "hastack.observe._shards",
    "hastack.observe._sizes",
    "hastack.observe._split",
    "hastack.observe._transport",
    "hastack.observe._wire",
    "hastack.observe.logs._archive",
    "hastack.observe.logs._atomic",
    "hastack.observe.logs._batch",
    "hastack.observe.logs._batching",
    "hastack.observe.logs._bounds",
    "hastack.observe.logs._clean",
    "hastack.observe.logs._columns",
    "hastack.observe.logs._convert",
    "hastack.observe.logs._dispatch",
    "hastack.observe.logs._drift",
    "hastack.observe.logs._export_arrow",
    "hastack.observe.logs._export_columns",
    "hastack.observe.logs._export_json",
    "hastack.observe.logs._export_sql",
    "hastack.observe.logs._folded",
    "hastack.observe.logs._follow_plan",
    "hastack.observe.logs._framing",
    "hastack.observe.logs._fuse",
    "hastack.observe.logs._grok_build",
    "hastack.observe.logs._grok_library",
    "hastack.observe.logs._grok_syntax",
    "hastack.observe.logs._leaf_bounds",
    "hastack.observe.logs._lines",
    "hastack.observe.logs._multiline",
    "hastack.observe.logs._nodes",
    "hastack.observe.logs._objects",
    "hastack.observe.logs._partial",
    "hastack.observe.logs._protocols",
    "hastack.observe.logs._redact_cards",
    "hastack.observe.logs._redact_find",
    "hastack.observe.logs._redact_ips",
    "hastack.observe.logs._redact_names",
    "hastack.observe.logs._redact_run",
    "hastack.observe.logs._redact_scan",
    "hastack.observe.logs._run_account",
    "hastack.observe.logs._sample",
    "hastack.observe.logs._schema_diff",
    "hastack.observe.logs._schema_fields",
    "hastack.observe.logs._syslog_frames",
    "hastack.observe.logs._template_explain",
    "hastack.observe.logs._template_form",
    "hastack.observe.logs._template_header",
    "hastack.observe.logs._template_index",
    "hastack.observe.logs._template_mine",
    "hastack.observe.logs._template_names",
    "hastack.observe.logs._template_state",
    "hastack.observe.logs._template_table",
    "hastack.observe.logs._template_tokens",
    "hastack.observe.logs._times",
    "hastack.observe.logs._value_types",
    "hastack.observe.logs._values",
    "hastack.observe.logs._vote",
    "hastack.observe.logs._where",
    "hastack.observe.logs.formats._apps",
    "hastack.observe.logs.formats._format",
    "hastack.observe.logs.formats._json",
    "hastack.observe.logs.formats._leaves",
    "hastack.observe.logs.formats._log_format",
    "hastack.observe.logs.formats._logfmt",
    "hastack.observe.logs.formats._registry",
    "hastack.observe.logs.formats._servers",
    "hastack.observe.logs.formats._shape",
    "hastack.observe.logs.formats._syslog",
    "hastack.observe.logs.formats._system",
    "hastack.observe.logs.formats._traces",
    "hastack.observe.logs.formats._web",
    "hastack.observe.logs.templates",
    "hastack.ratelimit._adaptive",
    "hastack.ratelimit._from_config",
    "hastack.ratelimit._quota",
    "hastack.ratelimit._reservation",
    "hastack.ratelimit._retry_after",
    "hastack.ratelimit._server_book",
    "hastack.ratelimit._server_fields",
    "hastack.wasm._abi._adapted",
    "hastack.wasm._abi._http",
    "hastack.wasm._abi._plain",
    "hastack.wasm._admission",
    "hastack.wasm._chain",
    "hastack.wasm._ed25519",
    "hastack.wasm._keys",
    "hastack.wasm._limits",
    "hastack.wasm._manifest",
    "hastack.wasm._memory",
    "hastack.wasm._quorum",
    "hastack.wasm._reader",
    "hastack.wasm._rollout",
    "hastack.wasm._signature",
    "hastack.wasm._signatures",
    "hastack.wasm._sizes",
)
"""All modules that decide: time comes in as an argument, nothing is waited for.

They must be covered to the last branch and may import neither asyncio, threading, time nor socket.
``setup.py``, ``scripts/pure.py`` and the tests read both lists from here.
"""


def report() -> dict[str, str]:
    """Import each module that can be compiled, and say ``"compiled"`` or ``"pure"`` for it."""
    return {name: _kind(importlib.import_module(name)) for name in COMPILED_MODULES}


def _kind(module: ModuleType) -> str:
    origin = str(getattr(module, "__file__", ""))
    return "compiled" if origin.endswith(tuple(EXTENSION_SUFFIXES)) else "pure"


class _SourceFirst(MetaPathFinder):
    """Finds the ``.py`` beside a compiled decision module, which Python itself would prefer."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in COMPILED_MODULES:
            return None
        found = PathFinder.find_spec(fullname, path)
        if found is None or found.origin is None:
            return None
        source = Path(found.origin).with_name(f"{fullname.rpartition('.')[2]}.py")
        return importlib.util.spec_from_file_location(fullname, source)


def force_pure() -> None:
    """Import the decision modules from source from now on; called for ``HASTACK_PURE=1``."""
    sys.meta_path.insert(0, _SourceFirst())
