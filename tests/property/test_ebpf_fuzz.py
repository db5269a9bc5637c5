"""Whatever bytes an object file consists of: `open` answers with a Spec or one typed error.

More rounds: ``HASTACK_FUZZ=100000 pytest tests/property/test_ebpf_fuzz.py``.
"""

from __future__ import annotations

import os
import random
import runpy
from pathlib import Path

import pytest
from bpf_objects import built
from hypothesis import given
from hypothesis import strategies as st

from hastack import ebpf
from hastack.errors import MalformedObject

ROUNDS = int(os.environ.get("HASTACK_FUZZ", "1500"))
whole = runpy.run_path(str(Path(__file__).parents[1] / "unit" / "test_ebpf_spec.py"))["whole"]
SEED = whole().build()


def outcome(content: bytes) -> str:
    try:
        spec = ebpf.open(content)
    except MalformedObject as error:
        return str(error)
    for name in spec.globals:
        spec.initial(name)
    return repr(spec)


@given(st.binary(max_size=300))
def test_noise(data):
    with pytest.raises(MalformedObject):
        ebpf.open(data)
    outcome(SEED[:64] + data)


@given(st.integers(0, len(SEED) - 1), st.binary(min_size=1, max_size=8))
def test_anything_written_anywhere(at, data):
    outcome(SEED[:at] + data + SEED[at + len(data) :])


def mutated(random_: random.Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(random_.choice((1, 1, 2, 4, 16))):
        at = random_.randrange(len(data))
        match random_.randrange(5):
            case 0:
                data[at] = random_.randrange(256)
            case 1:
                data[at] ^= 1 << random_.randrange(8)
            case 2:
                data[at : at + 4] = random_.choice((b"\xff" * 4, bytes(4), b"\0\0\0\x80"))
            case 3:
                other = random_.randrange(len(data))
                data[at : at + 8] = data[other : other + 8]
            case 4:
                del data[at : at + random_.randrange(1, 9)]
    return bytes(data[: random_.randrange(len(data))] if random_.random() < 0.03 else data)


def test_mutations_of_a_real_object():
    random_ = random.Random(6)
    seen = set()
    for _ in range(ROUNDS):
        seen.add(outcome(mutated(random_, SEED))[:20])
    assert len(seen) > 10  # not all of them end at one check


def test_mutations_of_what_clang_makes():
    random_ = random.Random(7)
    seeds = [built("basics"), built("iterator")]
    for _ in range(ROUNDS // 15):
        outcome(mutated(random_, random_.choice(seeds)))
