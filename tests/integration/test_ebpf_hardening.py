"""Strict loading against the kernel, and a process without privileges."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bpf_objects import SOURCES, built, needs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from hastack import ebpf
from hastack.ebpf import _kernel, _policy, _readback
from hastack.errors import PolicyViolation, SignatureInvalid

KEY = ed25519.Ed25519PrivateKey.generate()
PRIVATE = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
PUBLIC = KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


@pytest.fixture
def strict():
    needs("program:cgroup_skb")
    return ebpf.Strict(keys=[PUBLIC])


def test_only_signed_objects_are_loaded_and_updated(strict, tmp_path):
    first, second = built("version", "-DVERSION=1"), built("version", "-DVERSION=2")
    with pytest.raises(SignatureInvalid, match="not signed"):
        ebpf.load(first, strict=strict)
    with pytest.raises(SignatureInvalid, match="no trusted key"):
        ebpf.load(second, strict=strict, signature=ebpf.sign(first, PRIVATE))
    beside = tmp_path / "first.sig"
    beside.write_bytes(ebpf.sign(first, PRIVATE))
    with ebpf.load(first, strict=strict, signature=beside, name="version") as obj:
        with pytest.raises(SignatureInvalid, match="not signed"):
            obj.update(second)
        obj.update(second, signature=ebpf.sign(second, PRIVATE))
        with pytest.raises(SignatureInvalid, match="not signed"):
            obj.update(first)


def test_what_the_policy_forbids_never_reaches_the_kernel(strict):
    content = built("basics")
    signature = ebpf.sign(content, PRIVATE, manifest={"helpers": ["bpf_override_return"]})
    with pytest.raises(PolicyViolation, match=r"section '.strange' has no known type") as caught:
        ebpf.load(content, strict=strict, signature=signature)
    assert len(caught.value.violations) == 1
    with pytest.raises(PolicyViolation, match="bpf_override_return: denied to all") as caught:
        ebpf.load(content, strict=strict, signature=ebpf.sign(content, PRIVATE))
    assert "basics.bpf.c:" in str(caught.value)
    assert isinstance(caught.value, PermissionError)


def test_the_kernel_holds_what_was_meant(monkeypatch, tmp_path):
    needs("program:xdp")
    with ebpf.load(built("basics"), name="basics") as obj:
        _readback.compare(obj)
        code = dict(obj._code)
        obj._code["fill"] = code["burst"]
        with pytest.raises(PolicyViolation, match="fill: the kernel's tag is"):
            _readback.compare(obj)
        obj._code = code
        # What the kernel runs is held against the policy, not only what stands in the file.
        [called] = _readback.called_functions([_kernel.translated(obj.burst.fd)])
        assert not called or "bpf_ringbuf_reserve" in called
        allowed = ebpf.Policy(helpers=["bpf_override_return"])
        _readback.compare(obj, allowed)
        if called:
            monkeypatch.setattr(_policy, "_NEVER", frozenset(["bpf_ringbuf_reserve"]))
            with pytest.raises(PolicyViolation, match="in the kernel's instructions: denied"):
                _readback.compare(obj, allowed)
        hidden = tmp_path / "kallsyms"
        hidden.write_text("0000000000000000 T __bpf_call_base\n")
        assert _readback.called_functions([_kernel.translated(obj.burst.fd)], hidden) == [set()]
        obj.maps._parts.pop("numbers")
        with pytest.raises(PolicyViolation, match="fill: uses maps"):
            _readback.compare(obj)


SCRIPT = """
import json, os, sys, threading
sys.path[:0] = {path!r}
from bpf_objects import built, folder
from hastack import ebpf
from hastack.errors import HastackError, InvalidArgument, Unsupported

def version(n): return ebpf.open(built("version", f"-DVERSION={{n}}"), name="version")
obj = ebpf.load(version(1), programs=["count", "raw"])
basics = ebpf.load(built("basics"), programs=["burst"])
candidate = obj.prepare(version(2))
link = obj.count.attach({cgroup!r})
slot = obj.raw.attach(swappable=True)
ring = basics.ring("events")
seen = {{}}
spec = version(1)
folder().cleanup()  # while we may
user = {user!r}
if user is None:
    waiting = threading.Event()
    threading.Thread(target=waiting.wait).start()
    try: ebpf.drop_privileges()
    except Unsupported as error: seen["threads"] = str(error)
    waiting.set()
    for thread in threading.enumerate():
        if thread is not threading.current_thread(): thread.join()
else:
    for wrong in ("root", "no-such-user", 1 << 40):
        try: ebpf.drop_privileges(wrong)
        except InvalidArgument: seen["wrong"] = seen.get("wrong", 0) + 1
ebpf.drop_privileges({user!r})
seen["caps"] = [l.split()[1] for l in open("/proc/self/status") if l[:6] in ("CapPrm", "CapEff")]
seen["uid"] = os.getuid()
obj.table[1] = {{"packets": 3}}
seen["table"] = obj.table[1].packets
obj.update(candidate)
seen["program"] = link.query()["program_id"] == obj.count.id
seen["hits"] = obj.packets
try:
    basics.burst.test_run(bytes([5]) + bytes(63))
    seen["ring"] = len(ring.take())
except HastackError as error: seen["ring"] = str(error)
for name, use in (("load", lambda: ebpf.load(spec)), ("attach", lambda: obj.count.attach({cgroup!r}))):
    try: use(); seen[name] = "worked"
    except HastackError as error: seen[name] = str(error)
ring.close(); obj.close(); basics.close()
print(json.dumps(seen))
"""


@pytest.mark.parametrize("user", [None, "nobody"])
def test_everything_goes_on_without_capabilities(cgroup, user):
    needs("program:cgroup_skb", "program:raw_tracepoint", "map:prog_array")
    if os.geteuid():
        pytest.skip("only root has something to drop")
    built("version", "-DVERSION=1")
    path = [str(SOURCES.parent), str(Path(ebpf.__file__).parents[2])]
    script = SCRIPT.format(path=path, cgroup=str(cgroup), user=user)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False
    )
    assert not done.returncode, done.stderr
    seen = json.loads(done.stdout)
    assert seen["caps"] == ["0" * 16] * 2
    assert (seen["uid"] == 0) == (user is None)
    assert (seen["table"], seen["program"], seen["hits"], seen["ring"]) == (3, True, 0, 5)
    assert "EPERM" in seen["load"]
    assert "EPERM" in seen["attach"]
    if user is None:
        assert "several threads" in seen["threads"]
    else:
        assert seen["wrong"] == 3
