"""Folders that WASI modules were granted, and everything outside of them."""

from __future__ import annotations

import os
import random
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from wasm_guests import LONG

from hastack import wasm
from hastack.errors import InvalidArgument, WasmError

# Name: core parameters; how the test sees them. All return the number of an error.
CALLS = {
    "fd_prestat_get": ("i32 i32", "(i32, i32)"),
    "fd_prestat_dir_name": ("i32 i32 i32", "(i32, i32, i32)"),
    "path_open": (
        "i32 i32 i32 i32 i32 i64 i64 i32 i32",
        "(i32, i32, bytes, i32, i64, i64, i32, i32)",
    ),
    "fd_read": ("i32 i32 i32 i32", "(i32, i32, i32, i32)"),
    "fd_pread": ("i32 i32 i32 i64 i32", "(i32, i32, i32, i64, i32)"),
    "fd_write": ("i32 i32 i32 i32", "(i32, i32, i32, i32)"),
    "fd_pwrite": ("i32 i32 i32 i64 i32", "(i32, i32, i32, i64, i32)"),
    "fd_seek": ("i32 i64 i32 i32", "(i32, i64, i32, i32)"),
    "fd_tell": ("i32 i32", "(i32, i32)"),
    "fd_close": ("i32", "(i32)"),
    "fd_renumber": ("i32 i32", "(i32, i32)"),
    "fd_fdstat_get": ("i32 i32", "(i32, i32)"),
    "fd_fdstat_set_flags": ("i32 i32", "(i32, i32)"),
    "fd_filestat_get": ("i32 i32", "(i32, i32)"),
    "fd_filestat_set_size": ("i32 i64", "(i32, i64)"),
    "fd_advise": ("i32 i64 i64 i32", "(i32, i64, i64, i32)"),
    "fd_sync": ("i32", "(i32)"),
    "fd_readdir": ("i32 i32 i32 i64 i32", "(i32, i32, i32, i64, i32)"),
    "path_filestat_get": ("i32 i32 i32 i32 i32", "(i32, i32, bytes, i32)"),
    "path_create_directory": ("i32 i32 i32", "(i32, bytes)"),
    "path_remove_directory": ("i32 i32 i32", "(i32, bytes)"),
    "path_unlink_file": ("i32 i32 i32", "(i32, bytes)"),
    "path_rename": ("i32 i32 i32 i32 i32 i32", "(i32, bytes, i32, bytes)"),
    "path_symlink": ("i32 i32 i32 i32 i32", "(bytes, i32, bytes)"),
    "path_link": ("i32 i32 i32 i32 i32 i32 i32", "(i32, i32, bytes, i32, bytes)"),
    "path_readlink": ("i32 i32 i32 i32 i32 i32", "(i32, bytes, i32, i32, i32)"),
}


def module() -> bytes:
    """A module with a function for each call of WASI, which does nothing but that."""
    imports, functions = [], []
    for name, (core, _) in CALLS.items():
        imports.append(
            f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {core}) (result i32)))'
        )
        given = " ".join(f"(local.get {n})" for n in range(len(core.split())))
        functions.append(
            f'(func (export "{name}") (param {core}) (result i32) (call ${name} {given}))'
        )
    return wasm.wat(f"""(module {"".join(imports)} (memory (export "memory") 2) {"".join(functions)}
      (func (export "alloc") (param i32) (result i32) (i32.const 65536))
      (func (export "peek") (param i32 i32) (result i32 i32) (local.get 0) (local.get 1))
      (func (export "poke") (param i32 i32 i32)
        (memory.copy (local.get 0) (local.get 1) (local.get 2))))""")


class Guest:
    """One instance, and what its code would do."""

    def __init__(self, **files: object) -> None:
        functions = {name: f"{seen} -> i32" for name, (_, seen) in CALLS.items()}
        functions |= {"peek": "(i32, i32) -> bytes", "poke": "(i32, bytes)"}
        self.plugin = wasm.load(
            module(),
            trust=wasm.Unsigned(),
            limits=LONG,
            functions=functions,
            instances=1,
            wasi=wasm.Wasi(files={f"/{name}": path for name, path in files.items()}),
        )
        self.call = self.plugin.call

    def peek(self, form: str, at: int = 8) -> tuple[int, ...]:
        return struct.unpack(form, self.call("peek", at, struct.calcsize(form)))

    def open(self, path: str | bytes, *, how: int = 0, rights: int = 2, fd: int = 3) -> int:
        """The number of the file; below zero, that of the error."""
        raw = path.encode() if isinstance(path, str) else path
        error = self.call("path_open", fd, 0, raw, how, rights, rights, 0, 8)
        return -error if error else self.peek("<I")[0]

    def write(self, fd: int, data: bytes, *, at: int | None = None) -> int:
        self.call("poke", 4096, data)
        self.call("poke", 16, struct.pack("<II", 4096, len(data)))
        error = (
            self.call("fd_write", fd, 16, 1, 8)
            if at is None
            else (self.call("fd_pwrite", fd, 16, 1, at, 8))
        )
        return -error if error else self.peek("<I")[0]

    def read(self, fd: int, length: int, *, at: int | None = None) -> bytes:
        self.call("poke", 16, struct.pack("<II", 4096, length))
        error = (
            self.call("fd_read", fd, 16, 1, 8)
            if at is None
            else (self.call("fd_pread", fd, 16, 1, at, 8))
        )
        assert error == 0
        return self.call("peek", 4096, self.peek("<I")[0])


READ, WRITE = 2, 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "inside"
    (inside / "sub" / "deep").mkdir(parents=True)
    (inside / "hello").write_bytes(b"hello, guest")
    (inside / "sub" / "deep" / "there").write_bytes(b"deep down")
    (tmp_path / "secret").write_bytes(b"not for guests")
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "up").symlink_to("..")
    (inside / "near").symlink_to("hello")
    os.mkfifo(inside / "pipe")
    return inside


@pytest.fixture
def guest(folder: Path) -> Iterator[Guest]:
    made = Guest(data=wasm.Directory(folder, write=True, write_bytes=1000))
    with made.plugin:
        yield made


def test_what_was_granted_has_a_name(guest: Guest) -> None:
    assert guest.call("fd_prestat_get", 3, 8) == 0
    assert guest.peek("<BxxxI") == (0, 5)
    assert guest.call("fd_prestat_dir_name", 3, 32, 5) == 0
    assert guest.call("peek", 32, 5) == b"/data"
    assert guest.call("fd_prestat_dir_name", 3, 32, 4) == 37
    assert guest.call("fd_prestat_get", 4, 8) == 8
    assert guest.call("fd_prestat_get", 0, 8) == 8
    assert guest.call("fd_prestat_dir_name", guest.open("hello"), 32, 5) == 8


def test_files_are_read(guest: Guest) -> None:
    fd = guest.open("hello")
    assert fd == 4
    assert guest.read(fd, 5) == b"hello"
    assert guest.read(fd, 100) == b", guest"
    assert guest.read(fd, 100) == b""
    assert guest.read(fd, 5, at=7) == guest.read(fd, 100, at=7) == b"guest"
    assert guest.call("fd_seek", fd, -5, 2, 8) == 0
    assert guest.peek("<Q") == (7,)
    assert guest.call("fd_tell", fd, 8) == 0
    assert guest.peek("<Q") == (7,)
    assert guest.call("fd_seek", fd, -1, 0, 8) == 28
    assert guest.call("fd_seek", fd, 0, 9, 8) == 28
    assert guest.call("fd_filestat_get", fd, 64) == 0
    assert guest.peek("<QQBxxxxxxxQQ", 64)[2::2] == (4, 12)
    assert guest.call("fd_fdstat_get", fd, 64) == 0
    assert guest.peek("<B", 64) == (4,)
    assert guest.call("fd_advise", fd, 0, 0, 0) == guest.call("fd_sync", fd) == 0
    assert guest.call("fd_read", fd, 16, 5000, 8) == 28
    guest.call("poke", 16, struct.pack("<IIII", 4096, 3, 5000, 2))
    assert guest.call("fd_pread", fd, 16, 2, 0, 8) == guest.call("fd_seek", fd, 0, 0, 8) == 0
    assert guest.call("fd_read", fd, 16, 2, 8) == 0
    assert guest.peek("<I") == (5,)
    assert guest.call("fd_close", fd) == 0
    assert guest.call("fd_close", fd) == 8
    assert guest.call("fd_tell", fd, 8) == 8
    assert guest.call("fd_tell", 3, 8) == 31
    assert guest.open("sub/./deep/../deep//there", how=0) == 4
    assert guest.open("none") == -44
    assert guest.open("hello/x") == -54
    assert guest.open("hello", how=2) == -54  # a folder is wanted
    assert guest.open("hello", fd=4) == -54
    assert guest.call("path_filestat_get", 3, 0, b"sub", 64) == 0
    assert guest.peek("<QQB", 64)[2] == 3
    assert guest.call("path_filestat_get", 3, 0, b".", 64) == 0
    assert guest.call("path_filestat_get", 3, 0, b"link", 64) == 0
    assert guest.peek("<QQB", 64)[2] == 7  # the link, not what it leads to


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/etc/passwd", 76),
        ("..", 76),
        ("../secret", 76),
        ("sub/../../secret", 76),
        ("sub/deep/../../../secret", 76),
        (b"hello\0", 76),
        ("link", 32),
        ("near", 32),
        ("up/secret", 54),
        ("up", 32),
        ("pipe", 2),
        ("a" * 300, 37),
        ("a/" * 3000, 37),
    ],
)
def test_nothing_outside_is_reached(guest: Guest, path: str | bytes, code: int) -> None:
    for rights, how in ((READ, 0), (READ | WRITE, 0), (READ | WRITE, 1), (READ, 2)):
        found = guest.open(path, rights=rights, how=how)
        assert found < 0, found
        assert how or rights != READ or found == -code
    raw = path.encode() if isinstance(path, str) else path
    if code != 32 and path != "pipe":
        assert guest.call("path_filestat_get", 3, 0, raw, 64) != 0
        assert guest.call("path_create_directory", 3, raw) != 0
        assert guest.call("path_rename", 3, b"hello", 3, raw) != 0
        assert guest.call("path_unlink_file", 3, raw) != 0


def test_a_pipe_that_was_not_there_a_moment_ago(guest: Guest, monkeypatch) -> None:
    from hastack.wasm._abi import _wasi_files

    monkeypatch.setattr(_wasi_files, "_require_file", lambda name, parent: None)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert guest.open("pipe") == -2
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_folder_with_too_many_names_is_not_listed(guest: Guest, monkeypatch) -> None:
    from hastack.wasm._abi import _wasi_files

    monkeypatch.setattr(_wasi_files, "_NAMES", 3)
    assert guest.call("fd_readdir", 3, 4096, 100, 0, 8) == 61


def test_links_are_neither_made_nor_read(guest: Guest, folder: Path) -> None:
    assert guest.call("path_symlink", b"/etc/passwd", 3, b"mine") == 76
    assert guest.call("path_link", 3, 0, b"hello", 3, b"mine") == 76
    assert guest.call("path_readlink", 3, b"link", 64, 100, 8) == 76
    assert guest.call("path_unlink_file", 3, b"link") == 0  # the link itself is a name in it
    assert (folder.parent / "secret").read_bytes() == b"not for guests"


def test_files_are_written_within_a_budget(guest: Guest, folder: Path) -> None:
    fd = guest.open("new", how=1 | 4, rights=READ | WRITE)
    assert fd == 4
    assert guest.open("new", how=1 | 4, rights=WRITE) == -20
    assert guest.write(fd, b"x" * 600) == 600
    assert (folder / "new").stat().st_mode & 0o777 == 0o600
    assert guest.write(fd, b"y" * 100, at=0) == 100
    assert guest.write(fd, b"x" * 400) == -51  # 300 are left
    assert guest.write(fd, b"z", at=5000) == -22
    assert guest.call("fd_seek", fd, 5000, 0, 8) == 22
    assert guest.call("fd_filestat_set_size", fd, 1 << 40) == 22
    assert guest.call("fd_filestat_set_size", fd, 10) == 0
    assert guest.call("fd_fdstat_set_flags", fd, 1) == 0
    assert guest.write(fd, b"end") == 3
    assert (folder / "new").read_bytes() == b"y" * 10 + b"end"
    other = guest.open("hello")
    assert guest.write(other, b"no") == -8  # opened for reading
    assert guest.call("fd_renumber", other, fd) == 0
    assert guest.read(fd, 5) == b"hello"
    assert guest.call("fd_renumber", 60, fd) == 8
    assert guest.call("fd_renumber", fd, fd) == 0
    assert guest.call("path_create_directory", 3, b"made") == 0
    assert guest.call("path_rename", 3, b"new", 3, b"made/moved") == 0
    assert guest.call("path_remove_directory", 3, b"made") == 55
    assert guest.call("path_unlink_file", 3, b"made/moved") == 0
    assert guest.call("path_remove_directory", 3, b"made") == 0
    assert guest.call("path_remove_directory", 3, b".") == 28
    assert guest.call("path_rename", 3, b".", 3, b"x") == 28
    assert guest.open("hello", how=8, rights=WRITE) > 0
    assert (folder / "hello").read_bytes() == b""


def test_a_folder_for_reading_stays_as_it_is(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    guest = Guest(data=str(folder))
    with guest.plugin:
        for how, rights in ((1, READ), (8, READ), (0, WRITE), (0, READ | WRITE), (3, READ)):
            assert guest.open("hello", how=how, rights=rights) == -69
        # A folder is opened with all rights by wasi-libc; they come to nothing.
        assert guest.open("sub", how=2, rights=READ | WRITE) == 4
        assert guest.call("path_create_directory", 4, b"x") == 69
        assert guest.call("path_unlink_file", 3, b"hello") == 69
        assert guest.call("path_rename", 3, b"hello", 3, b"x") == 69
        fd = guest.open("hello")
        assert guest.write(fd, b"x") == -69
        assert guest.call("fd_filestat_set_size", fd, 0) == 69
        assert guest.call("fd_fdstat_get", fd, 64) == 0
        assert not guest.peek("<BxHxxxxQQ", 64)[2] & WRITE
    assert sorted(folder.rglob("*")) == before
    assert (folder / "hello").read_bytes() == b"hello, guest"


def test_folders_are_listed(guest: Guest) -> None:
    names, cookie = {}, 0
    while True:
        assert guest.call("fd_readdir", 3, 4096, 100, cookie, 8) == 0
        (used,) = guest.peek("<I")
        raw, at = guest.call("peek", 4096, used), 0
        while at + 24 <= len(raw):
            cookie_here, _, length, kind = struct.unpack_from("<QQIBxxx", raw, at)
            name = raw[at + 24 : at + 24 + length]
            if len(name) < length:
                break
            names[name.decode()], cookie = kind, cookie_here
            at += 24 + length
        if used < 100:
            break
    assert names == {"hello": 4, "sub": 3, "link": 7, "up": 7, "near": 7, "pipe": 0}


def test_files_are_few_and_end_with_the_instance(folder: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    guest = Guest(data=folder)
    with guest.plugin:
        opened = [guest.open("hello") for _ in range(70)]
        assert opened[:63] == list(range(4, 67))
        assert set(opened[63:]) == {-33}
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_what_cannot_be_granted_is_named(tmp_path: Path) -> None:
    with pytest.raises(WasmError, match="granted folder"):
        Guest(data=tmp_path / "nothing")
    for wrong in ({"/x": 3}, 7, {"/x\0": "/tmp"}):
        with pytest.raises(InvalidArgument, match="files"):
            wasm.Wasi(files=wrong)  # type: ignore[arg-type]
    bare = Guest()
    with bare.plugin:
        assert bare.open("hello") == -8
        assert bare.call("fd_prestat_get", 3, 8) == 8


def test_a_folder_that_changes_meanwhile_lets_nobody_out(guest: Guest, folder: Path) -> None:
    """Somebody swaps a folder for a link to the outside, as fast as can be."""
    stop = threading.Event()
    outside = folder.parent
    (outside / "there").write_bytes(b"not for guests")
    (folder / "real").mkdir()
    (folder / "real" / "there").write_bytes(b"inside")
    (folder / "bad").symlink_to(outside)

    def swap() -> None:
        while not stop.is_set():
            (folder / "real").rename(folder / "x")
            (folder / "bad").rename(folder / "real")
            (folder / "real").rename(folder / "bad")
            (folder / "x").rename(folder / "real")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        seen = 0
        for _ in range(1500):
            fd = guest.open("real/there")
            if fd > 0:
                assert guest.read(fd, 100) == b"inside"
                assert guest.call("fd_close", fd) == 0
                seen += 1
        assert seen
    finally:
        stop.set()
        thread.join()


def test_any_path_stays_inside(guest: Guest, folder: Path) -> None:
    dice = random.Random(7)
    parts = ["..", ".", "", "sub", "deep", "link", "up", "hello", "near", "there"]
    for _ in range(1500):
        path = "/".join(dice.choices(parts, k=dice.randrange(1, 8)))
        fd = guest.open(path)
        if fd > 0:
            assert guest.call("fd_filestat_get", fd, 64) == 0
            inode = guest.peek("<QQ", 64)[1]
            assert inode in {each.lstat().st_ino for each in (folder, *folder.rglob("*"))}
            assert guest.call("fd_close", fd) == 0
