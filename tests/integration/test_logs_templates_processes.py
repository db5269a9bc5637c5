"""Miners of several processes make one."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from hastack.observe.logs.templates import TemplateMiner

USERS = ("ada", "grace", "edsger", "linus", "barbara", "donald")


def mine(lines):
    return TemplateMiner().fit(lines)


def test_shards_are_mined_in_processes_and_merged():
    lines = [f"session {n} opened for user {user}" for n in range(50) for user in USERS]
    lines += [f"job {n} of {n} done in {n}.5 s" for n in range(50)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        first, second = pool.map(mine, [lines[::2], lines[1::2]], timeout=50)
    moved = first.merge(second)
    assert {row.text: row.count for row in first.templates()} == {
        "session <*> opened for user <*>": 300,
        "job <*> of <*> done in <*> s": 50,
    }
    for row in second.templates():
        assert first.match(row.example).template_id == moved[row.id]
