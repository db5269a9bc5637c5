"""``hastack wasm``, policies in front of handlers, and the ASGI middleware."""

from __future__ import annotations

import asyncio
import json
from inspect import signature
from pathlib import Path

import pytest
from wasm_guests import LONG, guest

pytest.importorskip("click")

from click.testing import CliRunner

from hastack import wasm
from hastack._rejection import problem
from hastack.cli._app import app
from hastack.contrib.asgi import GuardMiddleware, PolicyMiddleware
from hastack.errors import InvalidArgument, PolicyDenied

SLOW = ["--limit", "deadline=20"]


@pytest.fixture
def run():
    apart = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
    return lambda *args, **kw: CliRunner(**apart).invoke(app, ["wasm", *map(str, args)], **kw)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.wasm"
    path.write_bytes(guest("policy.c"))
    return path


def test_a_module_is_shown_and_compared_with_limits(run, policy) -> None:
    shown = run("inspect", policy)
    assert shown.exit_code == 0, shown.output
    assert "export  on_http_request: func (i32, i32, i32) -> i32" in shown.stdout
    assert "signed by nobody" in shown.stdout
    found = json.loads(run("inspect", "--json", policy).stdout)
    assert found["signed_by"] == []
    assert found["manifest"] is None
    assert run("lint", policy).exit_code == 0
    refused = run("lint", policy, "--limit", "functions=0")
    assert refused.exit_code == 1
    assert "functions 2, at most 0" in refused.stderr
    for wrong in ("nothing=1", "functions", "deadline=soon"):
        assert run("lint", policy, "--limit", wrong).exit_code == 2
    policy.write_bytes(b"no module")
    assert "no WebAssembly module" in run("inspect", policy).stderr


def test_keys_sign_and_verify(run, policy, tmp_path) -> None:
    for name, algorithm in (("ada", "ed25519"), ("bob", "p384")):
        made = run("keys", tmp_path / name, "--algorithm", algorithm)
        assert made.exit_code == 0, made.output
        assert made.stdout.startswith(algorithm)
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
        assert run("keys", "--show", tmp_path / name).stdout == made.stdout
        assert run("keys", "--show", tmp_path / f"{name}.pub").stdout == made.stdout
        assert run("keys", tmp_path / name).exit_code == 2
    people = [
        f"--signer=ada:author:{tmp_path}/ada.pub",
        f"--signer=bob:reviewer:{tmp_path}/bob.pub",
    ]
    both = ["--require", "author=1", "--require", "reviewer=1"]
    assert "not signed" in run("verify", policy, *people).stderr
    signed = run("sign", policy, "--key", tmp_path / "ada", "--name", "policy", "--svn", 3)
    assert signed.exit_code == 0, signed.output
    assert run("verify", policy, *people).exit_code == 0
    assert "it takes 1 author, 1 reviewer" in run("verify", policy, *people, *both).stderr
    assert run("sign", policy, "--key", tmp_path / "bob").exit_code == 0
    done = run("verify", policy, *people, *both)
    assert done.stdout.endswith("signed by ada, bob\n")
    shown = run("inspect", policy).stdout
    assert '"svn":3' in shown
    assert "signed by nobody" not in shown
    kit = tmp_path / "kit.wasm"
    kit.write_bytes(guest("kit.c"))
    for name in ("ada", "bob"):
        assert run("sign", kit, "--key", tmp_path / name, "--detached").exit_code == 0
    beside = ["--signature", tmp_path / "kit.sig"]
    assert run("verify", kit, *people, *both, *beside).exit_code == 0
    called = run("run", kit, *people, *beside, *SLOW, "--call", "add", "2", "3")
    assert called.stdout == "5\n", called.output
    assert run("sign", kit, "--key", tmp_path / "ada", "--detached", "--name", "x").exit_code == 2
    for wrong in (["--signer", "ada"], [*people, "--require", "author"], ["--signer=a:b:/absent"]):
        assert run("verify", policy, *wrong).exit_code == 2


def test_lists_of_revocations_are_made(run, tmp_path) -> None:
    assert run("keys", tmp_path / "chief").exit_code == 0
    chief = wasm.PrivateKey.from_pem((tmp_path / "chief").read_bytes())
    trust = wasm.Trust([wasm.Signer(chief.public, "chief")], revokers=[chief.public])
    out, key = tmp_path / "revoked.json", ["--key", tmp_path / "chief"]
    made = run("revoke", *key, "--serial", 3, "--days", 1, "--out", out, chief.public.id)
    assert made.stdout.endswith("list 3, 1 entries\n"), made.output
    listed = trust.revoke(out.read_bytes())
    assert listed.revoked == {chief.public.id}
    assert listed.expires is not None
    assert "revoked" in run("revoke", *key, "--serial", 4, "--out", out, "x").stderr


def test_modules_run_and_are_measured(run, policy, tmp_path) -> None:
    command = tmp_path / "command.wasm"
    command.write_bytes(guest("command.c"))
    done = run("run", "--unsigned", *SLOW, command, "cat", input="hello\n")
    assert done.stdout == "hello\n", done.output
    assert run("run", "--unsigned", *SLOW, command, "exit", "7").exit_code == 7
    (tmp_path / "granted").mkdir()
    (tmp_path / "granted" / "note").write_text("read me")
    granted = ["--dir", f"/data={tmp_path}/granted"]
    assert run("run", "--unsigned", *SLOW, *granted, command, "open", "note").stdout == "read me"
    assert run("run", "--unsigned", *SLOW, command, "open", "note").exit_code == 8
    writing = ["--dir", f"/data={tmp_path}/granted:rw"]
    assert run("run", "--unsigned", *SLOW, *writing, command, "open", "none").exit_code == 44
    assert run("run", "--unsigned", "--dir", "/data", command).exit_code == 2
    unsure = run("run", command)
    assert unsure.exit_code == 2
    assert "--unsigned" in unsure.stderr
    asked = run("run", "--unsigned", *SLOW, policy, "--call", "on_http_request", "PUT", "/admin")
    assert asked.stdout == "0\n"
    measured = run(
        "bench", "--unsigned", *SLOW, "--seconds", "0.05", policy,
        "--call", "on_http_request", "GET", "/",
    )  # fmt: skip
    assert "us for one" in measured.stdout, measured.output
    assert run("bench", "--unsigned", policy).exit_code == 2
    plugin = tmp_path / "plugin.wasm"
    plugin.write_bytes(guest("plugin.c"))
    said = run("run", "--unsigned", *SLOW, plugin, "--call", "count_vowels", "Hello")
    assert said.stdout == "2\n"
    kit = tmp_path / "kit.wasm"
    kit.write_bytes(guest("kit.c"))
    assert run("run", "--unsigned", *SLOW, kit, "--call", "half", "3.5").stdout == "1.75\n"
    assert "number" in run("run", "--unsigned", *SLOW, kit, "--call", "half", "x").stderr


def test_audit_logs_are_checked(run, tmp_path) -> None:
    path, key = tmp_path / "audit.jsonl", wasm.PrivateKey.generate()
    (tmp_path / "key.pub").write_bytes(key.public.to_pem())
    with wasm.Audit(path, key=key):
        wasm.load(wasm.wat("(module)"), trust=wasm.Unsigned()).close()
    done = run("audit", "verify", path, "--key", tmp_path / "key.pub")
    assert done.stdout.startswith("3 lines, signed up to line 3"), done.output
    path.write_bytes(path.read_bytes().replace(b"Activated", b"activated"))
    broken = run("audit", "verify", path)
    assert broken.exit_code == 1
    assert "line 2: was changed" in broken.stderr


class Request:
    def __init__(self, method: str, path: str) -> None:
        self.method = method
        self.path = path


def test_a_policy_stands_in_front_of_handlers(policy) -> None:
    @wasm.filter(policy, trust=wasm.Unsigned(), limits=LONG)
    def handler(request: Request) -> str:
        return f"served {request.path}"

    @wasm.filter(policy, trust=wasm.Unsigned(), limits=LONG, key=lambda path: (b"PUT", path))
    async def other(path: str) -> str:
        return f"served {path}"

    assert handler.__name__ == "handler"
    assert handler(Request("GET", "/admin")) == "served /admin"
    with pytest.raises(PolicyDenied) as caught:
        handler(Request("PUT", "/admin"))
    answer = problem(caught.value)
    assert answer is not None
    assert answer.status == 403
    assert asyncio.run(other("/x")) == "served /x"
    with pytest.raises(PolicyDenied):
        asyncio.run(other("/admin"))
    with pytest.raises(InvalidArgument, match="no request"):
        handler("text")
    with pytest.raises(InvalidArgument, match="trust"):
        wasm.filter(policy)
    broken = wasm.load(
        wasm.wat("""(module (memory (export "memory") 1)
            (func (export "on_http_request") (param i32 i32 i32) (result i32) unreachable))"""),
        trust=wasm.Unsigned(), limits=LONG,
    )  # fmt: skip
    with pytest.raises(InvalidArgument, match="options"):
        wasm.filter(broken, limits=LONG)

    @wasm.filter(broken)
    def never(request: Request) -> str:
        return "served"

    with pytest.raises(PolicyDenied):
        never(Request("GET", "/"))

    @wasm.filter(broken)
    async def never_beside(request: Request) -> str:
        return "served"

    with pytest.raises(PolicyDenied):
        asyncio.run(never_beside(Request("GET", "/")))


def test_the_middleware_answers_for_the_policy(policy) -> None:
    async def inner(scope, receive, send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})

    async def ask(application, kind: str, method: str, path: str):
        sent = []

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message)

        scope = {"type": kind, "method": method, "path": path, "headers": []}
        await application(scope, receive, send)
        return sent[0].get("status") or sent[0]["type"]

    plugin = wasm.load(policy, trust=wasm.Unsigned(), limits=LONG)
    swap = wasm.Swap("policy", trust=wasm.Unsigned(), limits=LONG, plan=wasm.Plan(trial=2))
    swap.offer(guest("policy.c"))
    for decides in (plugin, swap):
        application = GuardMiddleware(PolicyMiddleware(inner, policy=decides))
        for kind, method, path, expected in [
            ("http", "GET", "/admin", 200),
            ("http", "PUT", "/admin", 403),
            ("http", "HEAD", "/../x", 403),
            ("websocket", "GET", "/ws", "websocket.accept"),
            ("websocket", "GET", "/..", "websocket.close"),
        ]:
            assert asyncio.run(ask(application, kind, method, path)) == expected
    plugin.close()
    none = wasm.Swap("none", trust=wasm.Unsigned())
    for fail_open, expected in ((False, 403), (True, 200)):
        application = PolicyMiddleware(
            inner,
            policy=wasm.load(wasm.wat("(module)"), trust=wasm.Unsigned()),
            fail_open=fail_open,
        )
        assert asyncio.run(ask(application, "http", "GET", "/")) == expected
    assert asyncio.run(ask(PolicyMiddleware(inner, policy=none), "http", "GET", "/")) == 403


def test_beside_a_loop_a_version_goes_through_its_plan_as_well() -> None:
    def version(number: int) -> bytes:
        return wasm.wat(
            f'(module (func (export "v") (result i32) (i32.const {number}))'
            f'(func (export "only{number}")))'
        )

    async def main() -> None:
        plan = wasm.Plan(shadow=1, differences=1, canary=2, share=0.5, trial=1)
        swap = wasm.Swap("demo", trust=wasm.Unsigned(), limits=LONG, plan=plan)
        swap.offer(version(1))
        swap.offer(version(2))
        assert [await swap.call_async("v") for _ in range(5)] == [1, 1, 2, 2, 2]
        swap.offer(version(3))
        assert await swap.call_async("only2") is None  # which the new one does not have
        assert swap.phase is None
        swap.close()
        trial = wasm.Swap("demo", trust=wasm.Unsigned(), limits=LONG, plan=wasm.Plan(trial=9))
        trial.offer(version(1))
        trial.offer(version(2))
        assert await trial.call_async("only1") is None
        assert trial.phase is None
        trial.offer(version(2))
        assert trial.call("only1") is None
        assert trial.phase is None
        trial.close()

    asyncio.run(main())
