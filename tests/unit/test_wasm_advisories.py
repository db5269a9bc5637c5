"""Which versions of the engine are refused."""

from __future__ import annotations

import pytest

from hastack.errors import WasmError
from hastack.wasm import _capi
from hastack.wasm._advisories import known_bad


@pytest.mark.parametrize(
    ("version", "machine", "advisory"),
    [
        ("35.0.0", "x86_64", "GHSA-6wgr-89rj-399p"),
        ("36.0.6", "x86_64", "GHSA-6wgr-89rj-399p"),
        ("36.0.18", "x86_64", "GHSA-897f-g5gm-fmxm"),
        ("36.0.19", "x86_64", ""),
        ("42.0.1", "aarch64", "GHSA-6wgr-89rj-399p"),
        ("42.0.2", "aarch64", ""),
        ("43.0.0", "x86_64", "GHSA-6wgr-89rj-399p"),
        ("43.0.1", "x86_64", ""),
        ("50.0.1", "aarch64", ""),
        ("50.0.1.dev3", "x86_64", ""),
        ("a build of one's own", "x86_64", ""),
    ],
)
def test_versions(version: str, machine: str, advisory: str) -> None:
    found = known_bad(version, machine)
    assert (advisory in found) if advisory else not found


def test_a_bad_version_is_not_used_unless_somebody_says_so(monkeypatch) -> None:
    monkeypatch.setattr(_capi, "_library", None)
    monkeypatch.setattr(_capi.metadata, "version", lambda name: "43.0.0")
    with pytest.raises(WasmError, match="GHSA-6wgr"):
        _capi.library()
    monkeypatch.setenv("HASTACK_WASM_ENGINE", "any")
    assert _capi.library().path
    monkeypatch.delenv("HASTACK_WASM_ENGINE")

    def not_there(name: str) -> str:
        raise _capi.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(_capi, "_library", None)
    monkeypatch.setattr(_capi.metadata, "version", not_there)
    assert _capi.library().path
