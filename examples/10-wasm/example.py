"""A policy written in C, signed by two people, changed while it is in use.

usage: example.py [POLICY.wasm]    without it, policy.c is built with clang and lld
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from hastack import wasm
from hastack.errors import NotTrusted

HERE = Path(__file__).parent
LIMITS = wasm.Limits(deadline=1.0, memory="1MiB")


def built(folder: Path) -> bytes:
    if len(sys.argv) > 1:
        return Path(sys.argv[1]).read_bytes()
    out = folder / "policy.wasm"
    flags = ["--target=wasm32", "-O2", "-nostdlib", "-Wl,--no-entry", "-Wl,--strip-all"]
    subprocess.run(["clang", *flags, "-o", str(out), str(HERE / "policy.c")], check=True)
    return out.read_bytes()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ada, bob = wasm.PrivateKey.generate(), wasm.PrivateKey.generate("p384")
        trust = wasm.Trust(
            [wasm.Signer(ada.public, "ada"), wasm.Signer(bob.public, "bob", "reviewer")],
            require={"author": 1, "reviewer": 1},
            floors=wasm.Floors(folder / "floors.json"),
        )

        def release(svn: int) -> bytes:
            module = wasm.with_manifest(built(folder), name="policy", svn=svn)
            return wasm.sign(wasm.sign(module, ada), bob)

        with (
            wasm.Audit(folder / "audit.jsonl", key=ada),
            wasm.Swap(
                "policy",
                trust=trust,
                limits=LIMITS,
                plan=wasm.Plan(shadow=2, trial=2),
                health=lambda plugin: plugin.allow(b"GET", b"/"),
                state=folder / "state",
                cache=wasm.Cache(folder / "compiled"),
            ) as policy,
        ):
            policy.offer(release(1))
            for method, path in (("GET", "/"), ("PUT", "/drafts/1"), ("PUT", "/etc")):
                allowed = policy.allow(method.encode(), path.encode())
                print(f"{method} {path}: {'yes' if allowed else 'no'}")

            policy.offer(release(2))
            phases = []
            while policy.phase is not None:
                phases.append(policy.phase)
                assert policy.allow(b"GET", b"/")
            print(f"version 2 took over after {', '.join(phases)}")

            try:
                policy.offer(release(1))
            except NotTrusted as refused:
                print(f"version 1 again: {refused}")
        lines = wasm.audit_verify(folder / "audit.jsonl", [ada.public]).lines
        print(f"{lines} lines of audit, and all of them hold")


if __name__ == "__main__":
    main()
