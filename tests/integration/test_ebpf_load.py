"""Objects in the kernel: loading, globals, errors, lifetimes."""

from __future__ import annotations

import gc
import os
import shutil
import threading
from pathlib import Path

import pytest
from bpf_objects import built, kernel_objects, lacks, needs, open_descriptors, settles
from forking import run_in_fork

from hastack import ebpf
from hastack.ebpf import _libbpf, features
from hastack.errors import (
    ClosedError,
    ForkUnsafe,
    InvalidArgument,
    KernelRefused,
    Unsupported,
    VerifierError,
)


@pytest.fixture
def basics():
    needs("program:xdp")
    return ebpf.open(built("basics"), name="basics")


def test_globals_are_set_before_and_live_after(basics):
    with ebpf.load(
        basics, globals={"step": 5, "hits": 7, "label": "abc"}, programs=["fill"]
    ) as obj:
        shared = obj.globals
        assert (shared.step, shared.hits, shared.label, shared.level) == (5, 7, "abc", -7)
        assert shared.hidden == 5
        shared.hits = 1 << 40
        assert obj.fill.test_run(bytes(64)).result == 3  # XDP_TX
        assert shared.last.count == 1 << 40
        assert (shared.last.color.name, shared.last.low, shared.last.either.half) == ("GREEN", 5, 2)
        assert shared.hidden == 6
        assert obj.maps.numbers[0] == 5
        assert obj.table[5].count == 1 << 40
        shared.last = {"count": 3, "comm": "x"}
        assert (shared.last.count, shared.last.comm) == (3, "x")
        assert "hits" in shared
        assert set(shared) == set(basics.globals)
        with pytest.raises(InvalidArgument, match="constants are set before"):
            shared.step = 6
        with pytest.raises(InvalidArgument, match="hits=-1"):
            shared.hits = -1
        for name in ("nothing", "burst_of_nothing"):
            with pytest.raises(AttributeError):
                getattr(obj, name)
            with pytest.raises(AttributeError):
                getattr(shared, name)
    with pytest.raises(ClosedError):
        _ = shared.hits
    with pytest.raises(ClosedError):
        shared.hits = 1


def test_static_variables_alone_in_their_section():
    needs("program:raw_tracepoint", "btf")
    spec = ebpf.open(built("iterator"), name="iterator")
    with ebpf.load(spec, programs=["look"]) as obj:
        assert obj.globals["maps.form"] == "%d %d\n"
        with obj.look.attach():
            os.getppid()
        assert (obj.globals.has_type, obj.globals.has_member) == (0, 0)


@pytest.mark.parametrize(
    ("program", "reason", "line", "hint"),
    [
        ("unchecked", "map_value_or_null", "return v->count;", "bpf_map_lookup_elem"),
        ("leaks", "reference", "return 0;", "submit or discard"),
        ("not_here", "bpf_override_return", "bpf_override_return(", "may not call"),
    ],
)
def test_the_verifier_says_what_where_and_why(basics, program, reason, line, hint):
    before = open_descriptors()
    with pytest.raises(VerifierError, match=reason) as caught:
        ebpf.load(basics, programs=["fill", program])
    error = caught.value
    assert error.program == program
    assert error.instruction is not None
    assert line in error.source
    assert "basics.bpf.c:" in error.source or lacks("btf")
    assert hint in error.hint
    assert "processed" in error.log
    assert len(str(error)) < 400
    assert isinstance(error, OSError)
    del caught, error
    assert open_descriptors() == before


def test_a_member_that_this_kernel_lacks():
    needs("btf", "program:raw_tracepoint")
    with pytest.raises(VerifierError, match="no_such_member") as caught:
        ebpf.load(built("iterator"), programs=["broken"])
    assert "bpf_core_field_exists" in caught.value.hint


@pytest.mark.parametrize(("program", "kind"), [("enter", "tracing"), ("open_file", "lsm")])
def test_programs_that_need_trampolines(basics, program, kind):
    needs("btf")
    if features.has(f"program:{kind}"):
        with ebpf.load(basics, programs=[program]) as obj, obj.programs[program].attach() as link:
            assert link.type == "tracing"
    else:
        with pytest.raises(Unsupported, match=f"a program of type {kind}"):
            ebpf.load(basics, programs=[program])


def test_wrong_arguments_are_named(basics):
    for options, match in (
        ({"programs": ["none"]}, "programs='none'"),
        ({"globals": {"none": 1}}, r"globals\['none'\]"),
        ({"globals": {"step": "x"}}, "step='x'"),
        ({"max_entries": {"none": 1}}, "max_entries"),
        ({"reuse": {"none": None}}, "reuse"),
        ({"on_incompatible": "guess"}, "on_incompatible='guess'"),
    ):
        with pytest.raises(InvalidArgument, match=match):
            ebpf.load(basics, **options)
    with pytest.raises(Unsupported, match="stands for no program type"):
        ebpf.load(basics, programs=["strange"])


def test_a_map_that_cannot_be_made_is_named(basics):
    with pytest.raises(KernelRefused, match="create map table") as caught:
        ebpf.load(basics, programs=["fill"], max_entries={"table": 1 << 31})
    assert caught.value.errno
    assert "table" in caught.value.detail


def test_names_and_representations_help(basics):
    with ebpf.load(basics, programs=["burst", "fill"]) as obj:
        assert "programs burst, fill" in repr(obj)
        assert "hash" in repr(obj.table)
        assert "fill" in dir(obj.programs)
        assert repr(obj.programs) == "<programs: burst, fill>"
        assert "hits" in dir(obj.globals)
        assert "hits" in repr(obj.globals)
        assert "xdp" in repr(obj.fill)
        with pytest.raises(KeyError, match="no map 'none'; there is: events"):
            obj.maps["none"]
        info = obj.fill.info()
        assert info.name == "fill"
        assert info.map_ids
        assert len(obj.fill.tag) == 16
    assert "closed" in repr(obj)
    assert "closed" in repr(obj.maps.table)


def test_nothing_can_be_used_after_close(basics):
    obj = ebpf.load(basics)
    table, fill, ring = obj.table, obj.fill, obj.ring("events")
    obj.close()
    obj.close()
    for use in (
        lambda: table[1],
        lambda: list(table),
        lambda: table.fd,
        lambda: fill.test_run(bytes(64)),
        lambda: fill.info(),
        lambda: obj.raw.attach(),
        ring.take,
        ring.read_batch,
        ring.fileno,
    ):
        with pytest.raises(ClosedError):
            use()
    assert ring.account().consumed == 0


def test_everything_is_given_back(basics):
    def cycle():
        with ebpf.load(basics) as obj, obj.ring("events"):
            obj.burst.test_run(bytes([9]) + bytes(63))

    cycle()
    before, loaded = open_descriptors(), kernel_objects()
    for _ in range(10):
        cycle()
    assert open_descriptors() == before
    assert settles(loaded)


def forget(objects: list) -> None:
    objects.clear()
    gc.collect()


def test_a_forgotten_link_says_so(basics):
    needs("program:raw_tracepoint")
    before = open_descriptors()
    obj = ebpf.load(basics, programs=["raw"])
    obj.raw.attach()
    gone = [obj]
    del obj
    with pytest.warns(ResourceWarning, match="link of raw to raw tracepoint sys_enter"):
        forget(gone)
    assert open_descriptors() == before


def test_a_forked_child_holds_no_links_and_no_readers(basics):
    needs("program:raw_tracepoint")
    with ebpf.load(basics, programs=["raw", "burst"]) as obj:
        link, ring = obj.raw.attach(), obj.ring("events")
        obj.table[3] = {"count": 9}

        def child() -> None:
            assert link.closed
            assert obj.table[3].count == 9
            obj.table[4] = {"count": 1}
            for use in (ring.take, ring.read_batch, ring.fileno):
                with pytest.raises(ForkUnsafe, match="before the fork"):
                    use()
            ring.close()
            obj.close()

        run_in_fork(child)
        assert not link.closed
        assert obj.table[4].count == 1
        obj.burst.test_run(bytes([5]) + bytes(63))
        assert len(ring.take()) == 5


def test_close_from_another_thread_while_in_use(basics):
    for _ in range(5):
        obj = ebpf.load(basics, programs=["fill"])
        failures: list[BaseException] = []
        started = threading.Barrier(4)

        def use(obj=obj, failures=failures, started=started):
            started.wait()
            try:
                while True:
                    obj.table[1] = {"count": 1}
                    obj.fill.test_run(bytes(64))
                    _ = obj.globals.hits
                    list(obj.table.items())
            except ClosedError:
                pass
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        started.wait()
        obj.close()
        for thread in threads:
            thread.join(20)
        assert not failures


def test_what_is_missing_is_said(monkeypatch, basics):
    monkeypatch.setattr(_libbpf, "_found", None)
    monkeypatch.setattr(_libbpf, "candidates", lambda: ["/nowhere/libbpf.so.9"])
    with pytest.raises(Unsupported, match=r"libbpf is not available.*apt-get install libbpf1"):
        ebpf.load(basics)
    monkeypatch.undo()
    monkeypatch.setenv("HASTACK_LIBBPF", "/somewhere/libbpf.so")
    assert _libbpf.candidates()[-2:] == ["/somewhere/libbpf.so", "libbpf.so.1"]


KEPT: list[object] = []


def test_a_bundled_libbpf_comes_first(monkeypatch, tmp_path, basics):
    system = _libbpf.library()
    mapped = Path("/proc/self/maps").read_text().splitlines()
    real = next(line.split()[-1] for line in mapped if "/libbpf.so" in line)
    bundled = tmp_path / "_bundled" / "libbpf.so.1"
    bundled.parent.mkdir()
    shutil.copyfile(real, bundled)
    monkeypatch.setattr(_libbpf, "_found", None)
    monkeypatch.setattr(_libbpf, "__file__", str(tmp_path / "_libbpf.py"))
    KEPT.append(_libbpf.library())  # the library goes on calling what it was given
    assert _libbpf.library().path == str(bundled)
    assert _libbpf.library().version == system.version
    with ebpf.load(basics, programs=["fill"]) as obj:  # two copies of libbpf in one process
        assert obj.fill.test_run(bytes(64)).result == 3
    with pytest.raises(VerifierError):
        ebpf.load(basics, programs=["leaks"])


def test_without_privileges_the_error_says_what_it_takes(basics):
    def child() -> None:
        os.setgid(65534)
        os.setuid(65534)
        with pytest.raises(KernelRefused, match=r"EPERM.*CAP_BPF"):
            ebpf.load(basics, programs=["fill"])

    run_in_fork(child)


def test_features_are_found_by_trying():
    found = {each.name: each for each in features.survey()}
    assert found["map:hash"].there == (not lacks("map:hash"))
    assert not features.has("map:none")
    assert not features.has("nonsense")
    assert features.check("map:hash") is features.check("map:hash")
    assert all(each.reason for each in found.values())
