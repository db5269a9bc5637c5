"""The formats that are built in: what they read, and that each line is of one of them only."""

import pickle
import time

import pytest
from log_lines import NOW, SAMPLES

from hastack.observe import logs
from hastack.observe.logs import formats

ALL = [formats.get(name, now=lambda: NOW) for name in formats.names()]
BY_NAME = {each.name: each for each in ALL}
LINES = [(name, line) for name, lines in SAMPLES.items() for line in lines]


def test_every_format_has_samples():
    assert set(SAMPLES) == set(BY_NAME)


@pytest.mark.parametrize(("name", "line"), LINES)
def test_samples_are_read(name, line):
    record = BY_NAME[name].try_parse(line)
    assert record is not None, BY_NAME[name].explain(line)
    for field, value in SAMPLES[name][line].items():
        assert (field, record[field]) == (field, value)
    fields = BY_NAME[name].fields
    if name not in {"kubernetes.audit", "journal.export", "go.slog", "json", "logfmt"}:
        assert set(record) == set(fields)
    assert BY_NAME[name].explain(line) is None


@pytest.mark.parametrize(("name", "line"), LINES)
def test_a_sample_is_of_no_other_format_that_would_be_asked_before(name, line):
    mine = BY_NAME[name]
    others = [each for each in ALL if each is not mine and each.rank <= mine.rank]
    assert [each.name for each in others if each.try_parse(line) is not None] == []
    miss = [each.explain(line) for each in others]
    assert all(each is not None and 0 <= each.at <= len(line) and each.expected for each in miss)


def test_the_parser_finds_the_same_whatever_came_before():
    parser = logs.Parser(now=lambda: NOW)
    for order in (LINES, LINES[::-1], LINES[::2] + LINES[1::2]):
        batch = parser.parse_lines([line for _, line in order])
        assert [each.name for each in batch.formats] == [name for name, _ in order]
        assert not batch.rejects


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_hostile_line_takes_little_time(name):
    line = next(iter(SAMPLES[name]))
    begin = time.process_time()
    for place in (0, len(line) // 3, len(line) // 2, len(line)):
        for filling in (" ", "a", '"', "\\", "[", ":", "a=b ", "\n  at ", "x: ", "0", ", "):
            long = filling * (32 * 1024 // len(filling))
            BY_NAME[name].try_parse(line[:place] + long + line[place:])
    assert time.process_time() - begin < 20  # what is not bound takes minutes


def test_formats_travel_by_their_name():
    for each in map(formats.get, formats.names()):
        assert pickle.loads(pickle.dumps(each)) is each


def test_a_line_of_update_alternatives_is_one_whatever_it_says():
    """Its date and time can be the identity and the user of an access log."""
    tail = '[10/Oct/2026:13:55:36 +0000] "GET / HTTP/1.1" 200 12 "-" "curl"'
    for line in (f"update-alternatives 2026-10-10 13:55:36: {tail}",
                 f"update-alternatives 2026-10-10 13:55:36: run with {tail}"):  # fmt: skip
        readers = [each for each in logs.Parser().formats if each.try_parse(line) is not None]
        assert [each.name for each in readers if each.rank == readers[0].rank] == ["alternatives"]
        assert logs.Parser().parse_lines([line]).formats[0].name == "alternatives"
