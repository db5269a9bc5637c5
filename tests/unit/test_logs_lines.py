"""Bytes to lines, and lines to entries: encodings, pieces, tracebacks, partial lines, bounds."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastack.errors import InvalidArgument
from hastack.observe import logs


def cut(data, sizes, **options):
    lines = logs.Lines(**options)
    found, at = [], 0
    for size in sizes:
        found += lines.feed(data[at : at + size])
        at += size
    return [*found, *lines.feed(data[at:]), *lines.close()], lines


@given(
    st.text("ab\n\r\u00e9\U0001f600\ufeff", max_size=30),
    st.lists(st.integers(0, 7)),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]),
)
def test_pieces_do_not_matter(text, sizes, encoding):
    data = text.encode(encoding)
    if encoding == "utf-16-be":
        data = b"\xfe\xff" + data
    found, lines = cut(data, sizes)
    if encoding.startswith("utf-16"):
        assert "".join(found) == text
    else:
        assert b"".join(found) == data
    whole, _ = cut(data, [])
    assert found == whole
    assert all(line.endswith(("\n", b"\n")[isinstance(line, bytes)]) for line in found[:-1])
    assert lines.cut == 0


@pytest.mark.parametrize("encoding", ["auto", "utf-8", "latin-1"])
def test_long_lines_come_in_pieces(encoding):
    data = b"a" * 25 + b"\nbb\n" + b"c" * 10 + b"d"
    found, lines = cut(data, [3] * 10, longest=10, encoding=encoding)
    joined = "".join(each if isinstance(each, str) else each.decode() for each in found)
    assert joined.encode() == data
    assert max(map(len, found)) == 10
    assert lines.cut == 2
    whole, lines = cut(data, [], longest=10, encoding=encoding)
    assert whole == found
    assert lines.cut == 2


def test_what_lines_refuses():
    with pytest.raises(InvalidArgument, match="longest"):
        logs.Lines(longest=0)
    with pytest.raises(InvalidArgument, match="encoding"):
        logs.Lines(encoding="no such")
    lines = logs.Lines()
    assert (lines.feed(b"\xef"), lines.close(), lines.close()) == ([], [b"\xef"], [])


PYTHON = """ERROR:root:failed
Traceback (most recent call last):
  File "a.py", line 1, in <module>
    f()
ValueError: bad

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 1, in <module>
KeyError: 'x'
INFO:root:on
Traceback (most recent call last):
  File "a.py", line 1, in <module>
KeyError

INFO:root:on
""".splitlines()
GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "a.py", line 1, in <module>
  | ExceptionGroup: two (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: 1
    +------------------------------------
next""".splitlines()
JAVA = """2026-10-10 13:55:36,003 [main] ERROR com.shop.Order - done
java.lang.IllegalStateException: bad
\tat a.b(C.java:1)
Caused by: java.io.IOException
\t... 3 more
2026-10-10 13:55:36,003 [main] ERROR com.shop.Order - done""".splitlines()
GO = """panic: runtime error: index

goroutine 1 [running]:
main.main()
\t/tmp/x.go:7 +0x1d
exit status 2
next""".splitlines()
APT = """Start-Date: 2026-10-10  13:55:36
Commandline: apt
End-Date: 2026-10-10  13:55:37

Start-Date: 2026-10-10  13:55:36
Commandline: apt
next""".splitlines()


@pytest.mark.parametrize(
    ("lines", "sizes"),
    [
        (PYTHON, [11, 4, 1, 1]),
        (GROUP, [6, 1]),
        (JAVA, [5, 1]),
        (GO, [6, 1]),
        (APT, [4, 2, 1]),
        (["a", "", "b", "  c", "", "  d"], [1, 1, 2, 2]),
        (['{"a": 1}', "  x", "y"], [1, 2 - 1, 1]),
        (["Traceback (most recent call last):", "", "", "x"], [1, 1, 1, 1]),
        (["Traceback (most recent call last):", "  File", "E", "", "x"], [3, 1, 1]),
    ],
)
def test_what_belongs_together(lines, sizes):
    found = list(logs.fold(lines))
    assert [len(entry.split("\n")) for entry in found] == sizes
    assert "\n".join(found) == "\n".join(lines)
    raw = list(logs.fold([f"{line}\n".encode() for line in lines]))
    assert raw == [f"{entry}\n".encode() for entry in found]
    folder = logs.Folder()
    for line in lines:
        folder.push(line)
    folder.flush()
    assert folder.folded == len(lines) - len(found)


@given(
    st.lists(
        st.sampled_from(
            [*PYTHON, *GROUP, *JAVA, *GO, *APT, "", " ", " x", "__CURSOR=1", "B", "a=b"]
        )
    ),
    st.booleans(),
    st.integers(1, 5),
)
def test_folding_loses_nothing_and_is_bound(lines, raw, most):
    given_lines = [f"{line}\n".encode() if raw else f"{line}\n" for line in lines]
    found = list(logs.fold(given_lines, most_lines=most, most_size=60))
    assert (b"" if raw else "").join(found) == (b"" if raw else "").join(given_lines)
    newline = b"\n" if raw else "\n"
    assert all(entry.count(newline) <= most + 1 for entry in found)


def test_both_kinds_of_lines_do_not_mix():
    assert list(logs.fold(["a", b" b", b" c", " d"])) == ["a", b" b\n c", " d"]


def entry(number, message):
    head = f"__CURSOR={number}\n__REALTIME_TIMESTAMP=1791640536000000\nMESSAGE\n".encode()
    return head + struct.pack("<Q", len(message)) + message + b"\nPRIORITY=5\n\n"


@pytest.mark.parametrize("size", [0, 1, 10, 200, 256])
def test_binary_fields_of_the_journal(size):
    messages = [b"\n" * size, bytes(range(256)) * 2, b"x\n\ny" * size, b"\xe9" * size]
    data = b"".join(entry(number, each) for number, each in enumerate(messages))
    lines = logs.Lines().feed(data)
    batch = logs.Parser().parse_lines(logs.fold(lines, most_lines=2000))
    assert [each.name for each in batch.formats] == ["journal.export"] * 4
    assert [each["message"] for each in batch.records] == [
        each.decode("utf-8", "replace") for each in messages
    ]
    texts = [line.decode("utf-8", "surrogateescape") for line in lines]
    again = logs.Parser().parse_lines(logs.fold(texts, most_lines=2000))
    assert again.records == batch.records
    assert logs.parse(data[: len(data) // 8].rstrip(b"\n")) is not None or size == 0


CRI = "2026-10-10T13:55:36.003000000Z"


def test_partial_lines_of_containers():
    lines = [
        f"{CRI} stdout P hello ",
        f"{CRI} stderr F other",
        f"{CRI} stdout P big ",
        f"{CRI} stdout F world",
        f"{CRI} nowhere F world",
        '{"log":"ab\\\\n","stream":"stdout","time":"2026-10-10T13:55:36.003Z"}',
        '{"log":"c\\n","stream":"stdout","time":"2026-10-10T13:55:36.004Z"}',
        '{"log":"no docker"}',
        f"{CRI} stdout P waits",
        f"{CRI} stdout P:x waits",
    ]
    expected = [
        lines[1],
        f"{CRI} stdout F hello big world",
        lines[4],
        '{"log":"ab\\\\nc\\n","stream":"stdout","time":"2026-10-10T13:55:36.004Z"}',
        lines[7],
        f"{CRI} stdout P waitswaits",
    ]
    folder = logs.Folder()
    found = [entry for line in lines for entry in folder.push(line)] + folder.flush()
    assert found == expected
    assert (folder.folded, folder.cut) == (4, 0)
    raw = list(logs.fold([f"{line}\n".encode() for line in lines]))
    assert raw == [f"{line}\n".encode() for line in expected]


def test_partial_lines_are_bound():
    folder = logs.Folder(most_size=10)
    found = [e for _ in range(5) for e in folder.push(f"{CRI} stdout P {'x' * 6}")] + folder.flush()
    assert found == [f"{CRI} stdout P xxxxxx"] * 5
    assert (folder.folded, folder.cut) == (0, 4)
    for options in ({"most_lines": 0}, {"most_size": 0}):
        with pytest.raises(InvalidArgument, match="most"):
            logs.Folder(**options)
