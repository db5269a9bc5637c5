"""Maps of every type that the kernel makes: typed, in batches, changed while they are read."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from bpf_objects import built, needs, open_descriptors

from hastack import ebpf
from hastack.ebpf import _kernel, features
from hastack.errors import ClosedError, InvalidArgument, KernelRefused, MapIncompatible, Unsupported


@pytest.fixture(scope="module")
def spec():
    return ebpf.open(built("basics"), name="basics")


@pytest.fixture
def obj(spec):
    needs("program:xdp")
    with ebpf.load(spec, programs=["fill"]) as made:
        yield made


def test_structs_with_everything_in_them(obj):
    table = obj.maps.table
    value = {
        "count": 1 << 60,
        "comm": "python",
        "mac": b"\1\2\3\4\5\6",
        "flag": True,
        "color": "RED",
        "low": 5,
        "high": 8000,
        "pairs": [(1, -1), {"x": 2, "y": -2}],
        "either": {"word": 0x10002},
    }
    table[7] = value
    got = table[7]
    assert (got.count, got.comm, got.mac, got.flag) == (1 << 60, "python", value["mac"], True)
    assert (got.color.name, got.low, got.high) == ("RED", 5, 8000)
    assert got.pairs[1].y == -2
    assert (got.either.word, got.either.half) == (0x10002, 2)
    table[8] = got
    assert table[8] == got
    assert table.get(b"\x07\0\0\0") == got
    assert 7 in table
    assert 9 not in table
    assert table.get(9) is None
    with pytest.raises(KeyError):
        table[9]
    del table[7]
    with pytest.raises(KeyError):
        del table[7]
    assert not table.remove(7)
    for key, what, match in ((-1, value, "key=-1"), (1, {"low": 9}, r"value\.low=9")):
        with pytest.raises(InvalidArgument, match=match):
            table[key] = what


def test_modes_of_writing(obj):
    table = obj.maps.pairs
    table.put((1, 2), 3, mode="create")
    with pytest.raises(KernelRefused, match="the key is there already"):
        table.put((1, 2), 3, mode="create")
    with pytest.raises(KernelRefused, match="the key is not there"):
        table.put((3, 4), 3, mode="replace")
    with pytest.raises(InvalidArgument, match="mode='x'"):
        table.put((1, 2), 3, mode="x")
    assert [(key.x, key.y, value) for key, value in table.items()] == [(1, 2, 3)]
    with pytest.raises(KernelRefused, match="the map is full"):
        for n in range(100):
            table[n, 0] = n


def test_arrays_have_every_index(obj):
    numbers = obj.maps.numbers
    assert len(numbers) == 8
    assert numbers.update({n: n * n for n in range(8)}) == 8
    assert list(numbers.values()) == [n * n for n in range(8)]
    assert list(numbers) == list(range(8))
    with pytest.raises(KernelRefused, match="beyond its last entry"):
        numbers[8] = 1
    assert 8 not in numbers


def test_per_cpu_values_are_lists(obj):
    cpus = _kernel.possible_cpus()
    for each, zero in ((obj.maps.per_cpu_table, 0), (obj.maps.per_cpu_recent, 0)):
        each[1] = list(range(cpus))
        assert each[1] == list(range(cpus))
        assert list(each.items()) == [(1, list(range(cpus)))]
        with pytest.raises(InvalidArgument, match="one per CPU"):
            each[1] = zero
        assert each.pop(1) == list(range(cpus))
    pairs = obj.maps.per_cpu
    pairs[2] = [(n, -n) for n in range(cpus)]
    assert [tuple(each) for each in pairs[2]] == [(n, -n) for n in range(cpus)]


def test_queues_stacks_and_bloom_filters(obj):
    line, pile, seen = obj.maps.line, obj.maps.pile, obj.maps.seen
    for n in range(4):
        line.push(n)
        pile.push((n, n))
    with pytest.raises(KernelRefused, match="the map is full"):
        line.push(9)
    assert line.peek() == 0
    assert [line.pop() for _ in range(4)] == [0, 1, 2, 3]
    assert pile.pop().x == 3
    for empty in (line.pop, line.peek):
        with pytest.raises(KeyError):
            empty()
    seen.push(77)
    assert 77 in seen
    assert sum(n in seen for n in range(1000, 1100)) < 60
    for use in (lambda: line[1], lambda: list(line), lambda: seen.remove(1), lambda: list(seen)):
        with pytest.raises(Unsupported, match=r"has none|has no keys"):
            use()


def test_longest_prefixes(obj):
    routes = obj.maps.routes
    routes[{"bits": 8, "address": b"\x0a\0\0\0"}] = 1
    routes[16, b"\x0a\x01\0\0"] = 2
    assert routes[32, b"\x0a\x01\x02\x03"] == 2
    assert routes[32, b"\x0a\x02\x02\x03"] == 1
    assert routes.get((32, b"\x0b\0\0\0")) is None
    assert sorted(value for _, value in routes.items()) == [1, 2]
    assert len(routes) == 2


def test_maps_and_programs_in_maps(obj):
    inner = ebpf.Map.create("array", key_size=4, value_size=8, max_entries=1, name="inner")
    for outer in (obj.maps.outer, obj.maps.outer_array):
        outer[1] = inner
        assert outer[1] == inner.id
        assert dict(outer.items())[1] == inner.id
    wrong = ebpf.Map.create("array", key_size=4, value_size=4, max_entries=1)
    with pytest.raises(KernelRefused):
        obj.maps.outer[2] = wrong
    slots = obj.maps.slots
    slots[1] = obj.fill
    assert slots[1] == obj.fill.id
    assert 2 not in slots
    inner.close()
    wrong.close()
    with pytest.raises(ClosedError):
        inner[0] = bytes(8)


def test_storage_of_sockets(obj):
    import socket

    with socket.socket() as each:
        storage = obj.maps.of_socket
        storage[each.fileno()] = 5
        assert storage[each.fileno()] == 5
        assert storage.remove(each.fileno())


def test_every_map_type_that_the_kernel_makes(obj, cgroup):
    """Whatever the kernel makes is in one of the objects, and can be opened by its id."""
    needs("program:cgroup_skb", "map:task_storage", "map:cgrp_storage")
    with ebpf.load(built("more"), name="more") as more:
        both = [*obj.maps.values(), *more.maps.values()]
        for each in both:
            with ebpf.Map.open(each.id) as same:
                assert (same.type, same.key.size, same.value.size) == (
                    each.type,
                    each.key.size,
                    each.value.size,
                )
        here = {each.name[4:] for each in features.survey() if each and each.name[:4] == "map:"}
        # An arena is memory and no map of entries.
        assert here - {each.type for each in both} <= {"arena", "insn_array"}

        with more.programs["count"].attach(cgroup):
            code = (
                f"open({str(cgroup / 'cgroup.procs')!r}, 'w').write('0'); import socket\n"
                "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))"
            )
            subprocess.run([sys.executable, "-c", code], check=True)
            # A storage's key has the kernel's name; who attached once finds one entry.
            ((key, state),) = more.of_group.items()
            assert (key.cgroup_inode_id, state.calls) == (cgroup.stat().st_ino, 1)
            ((_, per_cpu),) = more.of_group_cpu.items()
            assert sum(each.calls for each in per_cpu) == 1
        pid = os.pidfd_open(os.getpid())
        more.of_task[pid] = {"calls": 3}
        assert more.of_task[pid].calls == 3
        os.close(pid)
        folder = os.open(cgroup, os.O_RDONLY)
        more.of_cgroup[folder] = {"flags": 4}
        assert more.of_cgroup[folder].flags == 4
        more.groups[1] = folder
        os.close(folder)


def test_batches_bring_everything_once(obj):
    table = obj.maps.table
    assert table.update((n, {"count": n}) for n in range(1000)) == 1000
    assert {key: value.count for key, value in table.items()} == {n: n for n in range(1000)}
    assert len(table) == 1000
    assert table.discard([1, 2, 5000]) == 2
    drained = {key: value.count for key, value in table.drain()}
    assert len(drained) == 998
    assert len(table) == 0
    assert table
    table.update({n: {} for n in range(10)})
    table.clear()
    assert list(table) == []
    with pytest.raises(Unsupported, match="keeps its entries"):
        next(obj.maps.numbers.drain())


@pytest.mark.parametrize("name", ["table", "recent", "routes", "per_cpu_table"])
def test_iterating_while_entries_are_deleted(obj, name):
    """Keys that stay come exactly once, whatever is deleted meanwhile."""
    each = obj.maps[name]
    cpus = _kernel.possible_cpus()
    values = {"table": {}, "per_cpu_table": [0] * cpus}
    keys = {
        "routes": [(32, bytes([n, 0, 0, 1])) for n in range(16)],
    }.get(name, list(range(60)))
    for key in keys:
        each[key] = values.get(name, 1)
    stay = set(map(repr, (each.key.decode(each.key.encode(key)) for key in keys[::2])))
    seen = []
    for number, (key, _) in enumerate(each.items()):
        seen.append(repr(key))
        if number < len(keys[1::2]):
            each.remove(keys[1::2][number])
    assert len(seen) == len(set(seen))
    if name != "recent":  # an LRU map may drop others
        assert stay <= set(seen)


def test_a_walk_that_loses_its_place_starts_anew(obj):
    """What types without batches go through, forced on one that has them."""
    table = obj.maps.table
    table.update({n: {} for n in range(200)})
    seen = []
    for key, _, _ in table._walk():
        number = table.key.decode(key)
        seen.append(number)
        table.remove(number)  # the place that the next step starts from
        if number % 2 and number + 1 in table:
            table.remove(number + 1)
    assert len(seen) == len(set(seen))
    assert len(table) == 0


def test_threads_share_a_map(obj):
    numbers = obj.maps.table

    def work(base: int) -> None:
        for n in range(200):
            numbers[base + n] = {"count": n}
            assert numbers[base + n].count == n

    threads = [threading.Thread(target=work, args=(base,)) for base in (0, 200, 400, 600)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(numbers) == 800


def test_a_map_of_its_own():
    needs("map:hash")
    before = open_descriptors()
    each = ebpf.Map.create("hash", key_size=4, value_size=8, max_entries=10)
    each[b"abcd"] = b"12345678"
    assert dict(each.items()) == {b"abcd": b"12345678"}
    with pytest.raises(InvalidArgument, match="4 bytes"):
        each[b"abc"] = b"12345678"
    each.close()
    with pytest.raises(InvalidArgument, match="type='none'"):
        ebpf.Map.create("none", key_size=4, value_size=8, max_entries=10)
    with pytest.raises(KernelRefused):
        ebpf.Map.create("hash", key_size=0, value_size=8, max_entries=10)
    assert open_descriptors() == before


def test_reusing_a_map(spec):
    needs("program:xdp")
    with ebpf.load(spec, programs=["fill"]) as first:
        first.table[9] = {"count": 5}
        with ebpf.load(spec, programs=["fill"], reuse={"table": first.table}) as second:
            assert second.table.id == first.table.id
            assert second.table[9].count == 5
        with pytest.raises(MapIncompatible, match="max_entries is 1024, the object wants 5"):
            ebpf.load(
                spec, programs=["fill"], reuse={"table": first.table}, max_entries={"table": 5}
            )
        with pytest.raises(MapIncompatible, match="type is array"):
            ebpf.load(spec, programs=["fill"], reuse={"table": first.numbers})


@pytest.fixture
def bpffs(tmp_path):
    needs("map:hash")
    place = tmp_path / "bpf"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "bpf", "bpf", str(place)], check=False)
    if done.returncode:
        pytest.skip("a BPF file system cannot be mounted")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def names(folder) -> list[str]:
    """What is pinned there, without what the kernel itself puts into a new file system."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".debug")


def test_pinned_maps_follow_the_stated_policy(spec, bpffs):
    options = {"programs": ["fill"], "pin_root": bpffs}
    with ebpf.load(spec, programs=["fill"]):
        assert names(bpffs) == []  # without a folder, nothing is pinned
    with ebpf.load(spec, **options) as first:
        first.kept[1] = 11
        kept = first.kept.id
    with ebpf.load(spec, **options) as second:
        assert (second.kept.id, second.kept[1]) == (kept, 11)
    larger = {**options, "max_entries": {"kept": 64}}
    before = open_descriptors()
    with pytest.raises(MapIncompatible, match="max_entries is 32, the object wants 64"):
        ebpf.load(spec, **larger)
    assert open_descriptors() == before
    with ebpf.load(spec, **larger, on_incompatible="migrate") as third:
        assert third.kept.id != kept
        assert dict(third.kept.items()) == {1: 11}
        kept = third.kept.id
    with ebpf.load(spec, **larger) as fourth:
        assert fourth.kept.id == kept
    with ebpf.load(spec, **options, on_incompatible="recreate") as fifth:
        assert dict(fifth.kept.items()) == {}
    assert names(bpffs) == ["kept"]
    ebpf.Map.unpin(bpffs / "kept")
    ebpf.Map.unpin(bpffs / "kept")
    assert names(bpffs) == []


def test_pins_that_fail_leave_nothing_behind(spec, bpffs):
    with ebpf.load(spec, programs=["fill"]) as obj:
        with pytest.raises(KernelRefused, match=r"pin .*nowhere"):
            obj.table.pin("/proc/nowhere")
        obj.table.pin(bpffs / "t")
        with pytest.raises(KernelRefused, match="EEXIST"):
            obj.table.pin(str(bpffs / "t"))
        obj.fill.pin(bpffs / "p")
    (bpffs / "t").unlink()
    (bpffs / "p").unlink()
