"""Redaction finds everything however it is put together, and does nothing twice."""

from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from hastack.observe import logs
from hastack.observe.logs import _redact_run as run
from hastack.observe.logs._redact_cards import is_card, luhn
from hastack.observe.logs._redact_find import REPLACED

KEY = b"a key of sixteen bytes or more"
PIECES = (
    *(
        "ada@example.org",
        "bob%40ex.co",
        "@",
        "%40",
        "a@b",
        " ",
        "=",
        ":",
        '"',
        "'",
        "\\",
        "\0",
        "\n",
    ),
    *(
        "password",
        "Cookie: ",
        "token=",
        "api_key",
        "secret",
        "x",
        "A",
        "7",
        ".",
        "-",
        "/",
        "#",
        "[",
    ),
    *(
        "Bearer abcdefgh1234",
        "basic dXNlcjpwYXNz",
        "AKIAIOSFODNN7EXAMPLE",
        "://u:p@h",
        "203.0.113.7",
    ),
    *("4111 1111 1111 1111", "378282246310005", "2001:db8:1:2::7", "::", "13:55:36", "[email]"),
    *("x9Kf2LmQ7pZr4TvB1nHs8WdG3jYc6RaE", "-----BEGIN PRIVATE KEY-----", "\u0130", "\udcff"),
    *("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc", "ghp_aB3daB3daB3daB3daB3d"),
    *("xoxb-123456789012-abc", "eyJhbGciOiJ.eyJzdWIiOiIx.a", "ghp_aaaaaaaaaaaaaaaaaaaaaaaa", "sk-"),
    *("npm_" + "a" * 30, "00000000", "SG.", "aB3daB3daB3daB3daB3d", "glpat-aaaaaaaaaaaaaaaa", "+"),
)
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)
policies = st.sampled_from(
    [
        logs.Redactor(ip="mask"),
        logs.Redactor(
            **dict.fromkeys(("email", "token", "card", "secret", "random", "ip"), "hash"),
            key=KEY,
            key_id="k1",
        ),
    ]
)


@given(texts, policies)
def test_once_is_enough_and_the_first_look_misses_nothing(text, redactor):
    once = redactor.text(text)
    assert redactor.text(once) == once
    everything = run.Run(redactor._policy)
    slow = text
    for _ in range(5):
        for _, step in everything._steps:
            slow = step(slow)
    assert once == slow


@given(st.lists(texts, max_size=30), policies)
def test_texts_do_not_change_each_other(several, redactor):
    assert redactor.lines(several) == [redactor.text(each) for each in several]


@given(
    st.sampled_from(["ada@example.org", "4111 1111 1111 1111", "AKIAIOSFODNN7EXAMPLE"]),
    texts,
    texts,
)
def test_what_stands_alone_is_never_left(what, before, after):
    left = logs.Redactor().text(f"{before} {what} {after}")
    assert f" {what} " not in left


pieces = st.sampled_from(PIECES)
values = st.recursive(
    pieces | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(pieces, inner, max_size=3),
    max_leaves=5,
)


@given(
    st.lists(
        st.dictionaries(pieces | st.sampled_from(["token", "n"]), values, max_size=4), max_size=3
    )
)
def test_records_together_are_records_alone(records):
    redactor = logs.Redactor(ip="mask")
    alone = [redactor.record(record) for record in records]
    together = copy.deepcopy(records)
    redactor.apply_records(together)
    assert together == alone
    for before, after in zip(records, together, strict=True):
        assert len(before) == len(after)
    again = copy.deepcopy(together)
    redactor.apply_records(again)
    assert again == together


@given(st.text("0123456789", min_size=1, max_size=19), st.integers(0, 18), st.integers(1, 9))
def test_one_digit_changed_is_noticed(digits, at, by):
    check = next(str(n) for n in range(10) if luhn(digits + str(n)))
    right = digits + check
    at %= len(right)
    wrong = right[:at] + str((int(right[at]) + by) % 10) + right[at + 1 :]
    assert luhn(right)
    assert not luhn(wrong)
    assert not is_card(wrong)


@given(st.binary(min_size=16, max_size=64), st.text(max_size=30))
def test_a_hash_is_of_the_value_and_the_key(key, value):
    redactor = logs.Redactor(secret="hash", key=key, key_id="k")
    found = redactor.record({"password": value})["password"]
    if value:
        assert (
            found == value
            if REPLACED.fullmatch(value)
            else f"secret#k:{redactor.digests(value)['k']}"
        )
