"""From bytes to a plugin: trust before anything else, and compiled code that nobody can plant."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from wasm_guests import LONG, guest

from hastack import events, wasm
from hastack.errors import InvalidArgument, ModuleRefused, NotTrusted, WasmError
from hastack.wasm import Floors, PrivateKey, Signer, Trust, sign, with_manifest

KEY = PrivateKey.generate()


def trust(**options) -> Trust:
    return Trust([Signer(KEY.public, "ada")], **options)


def test_only_what_is_signed_as_demanded_is_compiled(tmp_path: Path) -> None:
    module = sign(with_manifest(guest("policy.c"), name="policy", svn=4), KEY)
    path = tmp_path / "policy.wasm"
    path.write_bytes(module)
    floors = Floors(tmp_path / "floors.json")
    with events.record(wasm.PluginEvent) as seen:
        with wasm.load(path, trust=trust(floors=floors), limits=LONG) as plugin:
            assert plugin.allow(b"GET", b"/")
            assert plugin.verified is not None
            assert plugin.verified.identities == ("ada",)
        with pytest.raises(NotTrusted):
            wasm.load(guest("policy.c"), trust=trust())
    names = [type(one).__name__ for one in seen]
    assert names == ["PluginVerified", "PluginCompiled", "PluginActivated", "PluginRefused"]
    assert floors.floor("policy") == 4
    older = sign(with_manifest(guest("policy.c"), name="policy", svn=3), KEY)
    with pytest.raises(NotTrusted, match="security version 3"):
        wasm.load(older, trust=trust(floors=floors), name="policy")
    beside = sign(guest("kit.c"), KEY, detached=True)
    loaded = wasm.load(guest("kit.c"), trust=trust(), signature=beside, limits=LONG, accept=False)
    with loaded as plugin:
        assert plugin.call("add", 1, 2) == 3


def test_a_module_that_was_compiled_comes_out_of_the_cache(tmp_path: Path) -> None:
    cache = wasm.Cache(tmp_path / "compiled")
    options = {"trust": wasm.Unsigned(), "limits": LONG, "cache": cache}
    for _ in range(3):
        with wasm.load(guest("policy.c"), **options) as plugin:
            assert plugin.abi == "http"
            assert not plugin.allow(b"PUT", b"/admin")
    assert (cache.hits, cache.misses) == (2, 1)
    again = wasm.Cache(tmp_path / "compiled")  # as another process sees it
    first = wasm.load(guest("policy.c"), **options).facts
    found = again.find(plugin.digest, LONG)
    assert found is not None
    assert found[0] == first
    with pytest.raises(ModuleRefused, match="functions"):
        wasm.load(guest("policy.c"), **{**options, "limits": wasm.Limits(functions=0)})


def test_what_somebody_put_into_the_cache_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "compiled"
    cache = wasm.Cache(folder)
    options = {"trust": wasm.Unsigned(), "limits": LONG, "cache": cache}
    plugin = wasm.load(guest("kit.c"), **options)
    (entry,) = folder.glob("*.cwasm")
    good = entry.read_bytes()
    other = wasm.load(guest("policy.c"), **options)
    (theirs,) = set(folder.glob("*.cwasm")) - {entry}
    for broken in (
        good[:-1],
        good[:20],
        b"",
        good[:100] + bytes([good[100] ^ 1]) + good[101:],
        theirs.read_bytes(),  # authentic, and of another module
    ):
        entry.write_bytes(broken)
        assert cache.find(plugin.digest, LONG) is None
        assert not entry.exists()
        with wasm.load(guest("kit.c"), **options) as again:
            assert again.call("add", 2, 2) == 4
    assert other.allow(b"GET", b"/")
    elsewhere = wasm.Cache(tmp_path / "other")
    entry.replace(tmp_path / "other" / entry.name)
    assert elsewhere.find(plugin.digest, LONG) is None  # the key of another host


def test_a_cache_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(InvalidArgument, match="only this user"):
        wasm.Cache(open_to_all)
    half = tmp_path / "half"
    half.mkdir(mode=0o700)
    (half / "key").write_bytes(b"half a key")
    (half / "key").chmod(0o600)
    assert wasm.Cache(half)
    assert len((half / "key").read_bytes()) == 32


def test_the_oldest_entries_go_first(tmp_path: Path) -> None:
    cache = wasm.Cache(tmp_path / "compiled", most="20KiB")
    for number in range(6):
        text = f'(module (func (export "f") (result i32) (i32.const {number})))'
        with wasm.load(wasm.wat(text), trust=wasm.Unsigned(), cache=cache, limits=LONG) as plugin:
            assert plugin.call("f") == number
    kept = list((tmp_path / "compiled").glob("*.cwasm"))
    assert 1 <= len(kept) < 6
    assert sum(entry.stat().st_size for entry in kept) <= 20 << 10


def test_threads_that_load_at_once_all_get_it(tmp_path: Path) -> None:
    cache = wasm.Cache(tmp_path / "compiled")
    found: list[object] = []

    def load() -> None:
        try:
            with wasm.load(
                guest("kit.c"), trust=wasm.Unsigned(), cache=cache, limits=LONG
            ) as plugin:
                found.append(plugin.call("add", 3, 4))
        except WasmError as error:
            found.append(error)

    guest("kit.c")
    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert found == [7] * 4
    if os.geteuid() != 0:
        assert (tmp_path / "compiled" / "key").stat().st_mode & 0o077 == 0
