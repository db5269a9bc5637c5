"""A client and forks: it works anew where gRPC can, and says at once where it cannot.

Each scenario runs in a process of its own, so that only its own use of gRPC comes before the fork.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

BOUND = 40.0  # seconds; ends what hangs
SUPPORT = Path(__file__).resolve().parents[1] / "support"

PRELUDE = f"""
import asyncio, os, sys, time, warnings
sys.path.insert(0, {str(SUPPORT)!r})
warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads, since 3.12
from forking import run_in_fork
from hastack.discovery import etcd
from hastack.errors import ForkUnsafe

client = etcd.Client(sys.argv[1], timeout=10.0)

def use():
    asyncio.run(client.put("k", "v"))
    assert client.sync.get("k").value == b"v"

def enter(thing):
    with thing:
        pass

def refused():
    for call in (
        use,
        lambda: client.sync.get("k"),
        lambda: asyncio.run(client.get("k")),
        lambda: enter(client.sync.lease(5.0)),
        lambda: enter(client.sync.keep("kept", "v", ttl=5.0)),
        lambda: next(iter(client.sync.watch("k").__enter__())),
    ):
        began = time.monotonic()
        try:
            call()
        except ForkUnsafe as error:
            assert "close the client before the fork" in str(error)
            # At once: the client's own timeout is twice as long.
            assert time.monotonic() - began < 5.0, call
        else:
            raise AssertionError("it was used after all")
"""


def program(etcd, code):
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), etcd.endpoint],
        env={k: v for k, v in os.environ.items() if k != "GRPC_ENABLE_FORK_SUPPORT"},
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    "before",
    [
        "",
        "import grpc.aio",
        "client.url; client.sync; repr(client)",
        "asyncio.run(client.aclose()); client = etcd.Client(sys.argv[1])",
    ],
    ids=["made", "grpc imported", "looked at", "closed unused"],
)
def test_a_client_that_was_not_used_before_the_fork_works_in_parent_and_children(etcd, before):
    """As under gunicorn with ``preload_app``."""
    program(
        etcd,
        f"""
        {before}
        pids = []
        for n in range(3):  # several workers at once
            pid = os.fork()
            if pid == 0:
                use()
                os._exit(0)
            pids.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
        use()
        """,
    )


@pytest.mark.parametrize(
    "before",
    ["asyncio.run(client.put('k', 'v'))", "client.sync.put('k', 'v')"],
    ids=["loop", "portal"],
)
def test_a_client_with_open_connections_says_so_in_the_child(etcd, before):
    program(
        etcd,
        f"""
        {before}
        for n in range(3):
            run_in_fork(refused)
            use()  # the parent goes on
        """,
    )


@pytest.mark.parametrize("where", ["client.sync", "another loop"])
def test_a_child_lives_however_busy_the_connections_were(etcd, where):
    """With gRPC's own hooks, one child in three dies before it runs."""
    program(
        etcd,
        f"""
        import threading

        assert "GRPC_ENABLE_FORK_SUPPORT" not in os.environ
        stop = False

        async def busy_loop():
            while not stop:
                await client.put("k", "v")

        def busy():
            if {where!r} == "another loop":
                asyncio.run(busy_loop())
            while not stop:
                client.sync.put("k", "v")

        def child():
            try:
                client.sync.get("k")
            except ForkUnsafe:
                return
            raise AssertionError("it was used after all")

        client.sync.put("k", "v")
        threads = [threading.Thread(target=busy) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for n in range(30):
                run_in_fork(child)
        finally:
            stop = True
            for thread in threads:
                thread.join()
        assert "GRPC_ENABLE_FORK_SUPPORT" not in os.environ
        use()
        """,
    )


@pytest.mark.parametrize("value", ["1", "0"])
def test_the_program_decides_about_hooks_of_grpc_itself(etcd, value):
    program(
        etcd,
        f"""
        os.environ["GRPC_ENABLE_FORK_SUPPORT"] = {value!r}
        use()
        assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == {value!r}
        """,
    )


def test_a_fork_inside_of_a_running_loop(etcd):
    program(
        etcd,
        """
        import threading

        async def main():
            await client.put("k", "v")
            def child():
                thread = threading.Thread(target=refused)
                thread.start()
                thread.join()
            run_in_fork(child)
            assert (await client.get("k")).value == b"v"

        asyncio.run(main())
        """,
    )


def test_a_client_that_was_closed_before_the_fork_leaves_the_child_free(etcd):
    program(
        etcd,
        """
        use()
        client.sync.close()
        client = etcd.Client(sys.argv[1])
        run_in_fork(use)
        use()
        """,
    )


def test_a_fork_at_the_moment_of_closing_again_and_again(etcd):
    """gRPC ends its threads after the last channel was closed, on a thread of its own."""
    program(
        etcd,
        """
        for n in range(10):
            use()
            client.sync.close()
            client = etcd.Client(sys.argv[1], timeout=10.0)
            run_in_fork(use)
        """,
    )


def test_where_somebody_else_uses_grpc_a_child_is_told_at_once(etcd):
    program(
        etcd,
        """
        use()
        client.sync.close()
        client = etcd.Client(sys.argv[1], timeout=10.0)
        import grpc
        channel = grpc.insecure_channel(sys.argv[1])
        grpc.channel_ready_future(channel).result(10)
        run_in_fork(refused)
        use()
        """,
    )


def test_a_child_that_does_not_use_it_ends_in_peace(etcd):
    program(
        etcd,
        """
        import gc
        use()
        pid = os.fork()
        if pid == 0:
            del client
            gc.collect()
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        use()
        """,
    )


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_ways_to_start_a_process_are_not_affected(etcd, tmp_path, method):
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing, sys
            from hastack.discovery import etcd

            def work(endpoint):
                assert etcd.Client(endpoint).sync.get("k").value == b"v"

            if __name__ == "__main__":
                client = etcd.Client(sys.argv[1])
                client.sync.put("k", "v")
                process = multiprocessing.get_context({method!r}).Process(
                    target=work, args=(sys.argv[1],)
                )
                process.start()
                process.join(30)
                sys.exit(process.exitcode)
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script), etcd.endpoint],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 0, done.stderr
