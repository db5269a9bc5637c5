"""A hash in the kernel and a dict, told the same, stay the same; also in the middle of a walk."""

from __future__ import annotations

import pytest
from bpf_objects import lacks
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hastack import ebpf
from hastack.errors import KernelRefused

SIZE = 24
keys = st.integers(0, 40).map(lambda n: n.to_bytes(4, "little"))
values = st.integers(0, (1 << 64) - 1).map(lambda n: n.to_bytes(8, "little"))


class Both(RuleBasedStateMachine):
    @initialize()
    def make(self) -> None:
        flags = 1  # BPF_F_NO_PREALLOC: the limit is exact
        self.map = ebpf.Map.create(
            "hash", key_size=4, value_size=8, max_entries=SIZE, flags=flags, name="machine"
        )
        self.model: dict[bytes, bytes] = {}

    @rule(key=keys, value=values, mode=st.sampled_from(["any", "create", "replace"]))
    def put(self, key, value, mode) -> None:
        there = key in self.model
        allowed = {"any": True, "create": not there, "replace": there}[mode]
        if allowed and (there or len(self.model) < SIZE):
            self.map.put(key, value, mode=mode)
            self.model[key] = value
        else:
            with pytest.raises(KernelRefused):
                self.map.put(key, value, mode=mode)

    @rule(entries=st.dictionaries(keys, values, max_size=8))
    def update(self, entries) -> None:
        if len({*self.model, *entries}) <= SIZE:
            assert self.map.update(entries) == len(entries)
            self.model.update(entries)

    @rule(key=keys)
    def remove(self, key) -> None:
        assert self.map.remove(key) == (self.model.pop(key, None) is not None)

    @rule(key=keys)
    def pop(self, key) -> None:
        if key in self.model:
            assert self.map.pop(key) == self.model.pop(key)
        else:
            with pytest.raises(KeyError):
                self.map.pop(key)

    @rule(gone=st.sets(keys), walk=st.booleans())
    def delete_while_reading(self, gone, walk) -> None:
        chunks = self.map._walk() if walk else self.map._chunks()
        seen: list[bytes] = []
        deleted: set[bytes] = set()
        for found, _, count in chunks:
            seen += self.map.key.decode_many(found, count)
            for key in gone - deleted:
                self.map.remove(key)
            deleted |= gone
        assert len(seen) == len(set(seen))
        assert set(self.model) - gone <= set(seen) <= set(self.model)
        for key in gone if deleted else ():
            self.model.pop(key, None)

    @rule()
    def drain(self) -> None:
        assert dict(self.map.drain()) == self.model
        self.model.clear()

    @invariant()
    def same(self) -> None:
        if hasattr(self, "map"):
            assert dict(self.map.items()) == self.model
            assert len(self.map) == len(self.model)

    def teardown(self) -> None:
        if hasattr(self, "map"):
            self.map.close()


Both.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestBoth = pytest.mark.skipif(bool(lacks("map:hash")), reason=lacks("map:hash") or "-")(
    Both.TestCase
)
