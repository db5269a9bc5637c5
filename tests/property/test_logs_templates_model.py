"""A miner under any lines in any order: bounded, exact, with ids that stay."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from hastack.observe.logs.templates import TemplateMiner, detect_header

words = st.sampled_from(
    [
        "user",
        "ada",
        "grace",
        "linus",
        "for",
        "up",
        "down",
        "x1",
        "x2",
        "7",
        "-8.5",
        "10.0.0.1:80",
        "a=1",
        "a=b",
        "(x)",
        "()",
        "blk_1",
        "blk_2",
        '="a b"',
        "<1 sec",
        "true",
        "Jul",
        "/a/b/c",
        "a=b,c=2",
    ]
)
odd = st.text(st.sampled_from('ab0 1="<>:,-_./\\()\0\1\2\3\4\t\u00e9'), max_size=12)
lines = st.one_of(
    st.lists(words, max_size=7).map(" ".join),
    st.lists(st.one_of(words, odd), max_size=4).map("  ".join),
    st.text(max_size=30),
)


class Miner(RuleBasedStateMachine):
    seen = Bundle("seen")

    @initialize(most=st.sampled_from([2, 5, 1000]), tokens=st.sampled_from([2, 3, 64]))
    def start(self, most, tokens):
        self.most = most
        self.miner = TemplateMiner(
            header=None, max_templates=most, max_tokens=tokens, max_chars=40, max_patterns=20
        )
        self.added = {}
        self.lines = 0

    def learned(self, line, match):
        assert match.render().split() == line.split()
        assert len(match.fields) == len(match.values)
        again = self.miner.match(line)
        assert again is not None
        assert again.template_id == match.template_id
        assert again.values == match.values
        self.lines += 1
        if not self.miner.evicted:
            self.added[line] = match.template_id

    @rule(target=seen, line=lines)
    def add(self, line):
        self.learned(line, self.miner.add(line))
        return line

    @rule(line=seen)
    def add_again(self, line):
        self.learned(line, self.miner.add(line))

    @rule(target=seen, many=st.lists(lines, max_size=8))
    def fit(self, many):
        self.miner.fit(many)
        self.lines += len(many)
        return multiple(*many)

    @rule(line=lines)
    def look(self, line):
        before = self.miner.dump()
        match = self.miner.match(line)
        assert match is None or match.render().split() == line.split()
        assert self.miner.dump() == before

    @rule(first=lines, second=lines)
    def explain(self, first, second):
        assert str(self.miner.explain(first, second))

    @rule()
    def settle(self):
        rows = self.miner.templates()
        assert len({row.id for row in rows}) == len(rows) == len(self.miner)
        for row in rows:
            assert self.miner.resolve(row.id) == row.id
            assert len({slot.name for slot in row.slots}) == len(row.slots)
        if not self.miner.evicted:
            assert sum(row.count for row in rows) == self.lines

    @rule()
    def reload(self):
        again = TemplateMiner.load(self.miner.dump())
        assert again.dump() == self.miner.dump()
        self.miner = again

    @rule(many=st.lists(lines, max_size=6))
    def merge(self, many):
        other = TemplateMiner(
            header=None, max_tokens=self.miner._bounds["max_tokens"], max_chars=40
        )
        ids = [other.add(line).template_id for line in many]
        moved = self.miner.merge(other)
        self.lines += len(many)
        if not self.miner.evicted:
            for line, number in zip(many, ids, strict=True):
                match = self.miner.match(line)
                assert match is not None
                assert match.template_id == self.miner.resolve(moved[number])

    @invariant()
    def everything_is_bounded(self):
        index = self.miner._index
        assert len(self.miner) <= self.most
        assert len(index.known) <= 20
        assert len(index.aliases) <= 20
        assert len(self.miner._reader._masked) <= 20
        assert set(index._rows.values()) == set(index.entries.values())
        assert self.miner.lines == self.lines

    @invariant()
    def ids_stay(self):
        if not self.miner.evicted:
            for line, number in self.added.items():
                match = self.miner.match(line)
                assert match is not None, line
                assert match.render().split() == line.split()
                if len(self.miner._index.aliases) < 20:
                    assert match.template_id == self.miner.resolve(number), line


TestMiner = Miner.TestCase
TestMiner.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@given(st.lists(lines, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_fit_is_the_same_in_any_order(many, draw):
    def grouping(order):
        miner = TemplateMiner(header=None).fit(order)
        groups = {}
        for line in many:
            groups.setdefault(miner.match(line).template_id, set()).add(line)
        return sorted(map(sorted, groups.values()))

    expected = grouping(many)
    shuffled = list(many)
    draw.shuffle(shuffled)
    assert grouping(shuffled) == expected


@given(st.lists(lines, max_size=12))
def test_a_header_is_a_part_of_the_line(many):
    stamped = [f"2026-11-25 03:00:00 INFO [main] {line}" for line in many]
    header = detect_header(stamped)
    for line in (*many, *stamped):
        if header is not None:
            head, message = header.split(line)
            assert line.startswith(head)
            assert line.endswith(message)
            assert line[len(head) : len(line) - len(message)].strip() == ""
    miner = TemplateMiner().fit(stamped)
    for line in stamped:
        match = miner.match(line)
        assert match.render().split() == (header.split(line)[1] if header else line).split()


def test_random_bytes():
    draw = random.Random(11)
    miner = TemplateMiner(max_templates=100)
    for _ in range(1000):
        line = "".join(
            chr(draw.choice((draw.randint(0, 127), draw.randint(0, 0xD7FF)))) for _ in range(30)
        )
        assert miner.add(line).render().split() == line.split()
