"""The fast reader and the slow one are the same, over grammars and lines at random."""

import parsy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hastack.observe.logs import combinators as c
from hastack.observe.logs._nodes import Miss, read

ALPHABET = 'ab1, "x'


def odd(text):
    """A conversion that often says no."""
    if len(text) % 2:
        raise ValueError
    return text.upper()


def no_b(value):
    if "b" in str(value):
        raise ValueError
    return ("m", value)


leaves = st.one_of(
    st.text(ALPHABET, min_size=1, max_size=2).map(c.lit),
    st.sampled_from(
        [
            c.integer,
            c.token(stop=" ,"),
            c.until(","),
            c.until("ab"),
            c.quoted(),
            c.quoted("x", escape=""),
            c.spaces,
            c.regex("[ab]"),
            c.regex("[ab]*", odd),
            c.regex("a?"),
            parsy.regex("[a1]+").map(len),
        ]
    ),
)


def grow(inner):
    return st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: c.seq(*parts)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: c.alt(*parts)),
        inner.map(lambda part: c.opt(part, "none")),
        st.tuples(st.sampled_from("pqr"), inner).map(lambda pair: c.field(*pair)),
        inner.map(lambda part: c.seq(part).map(no_b)),
        st.tuples(inner, st.integers(0, 2), st.none() | st.integers(2, 3)).map(
            lambda t: c.many(c.seq(c.lit("a"), t[0]), least=t[1], most=t[2])
        ),
        st.tuples(inner, inner, st.integers(0, 2), st.none() | st.integers(2, 3)).map(
            lambda t: c.sep_by(
                c.seq(c.regex("[b1]"), t[0]), c.seq(c.lit(","), t[1]), least=t[2], most=t[3]
            )
        ),
        inner.map(lambda part: c.lit("a") >> part if isinstance(part, c.Parser) else part),
        inner.map(lambda part: part << c.lit("b") if isinstance(part, c.Parser) else part),
    )


grammars = st.recursive(leaves, grow, max_leaves=12).map(lambda part: c.seq(part))
lines = st.text(ALPHABET, max_size=12)


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(grammars, st.lists(lines, min_size=1, max_size=6))
def test_both_readers_find_the_same(grammar, texts):
    compiled = grammar.compile(bounded=False)
    for text in texts:
        expected = read(grammar.node, text, 0, Miss())
        assert compiled.match(text, 0) == expected
        try:
            whole = grammar.parse(text)
        except parsy.ParseError:
            assert compiled.try_parse(text) is None
            with pytest.raises(c.LineError) as caught:
                compiled.parse(text)
            assert 0 <= caught.value.at <= len(text)
            assert caught.value.expected
        else:
            assert compiled.parse(text) == whole


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(grammars)
def test_a_record_always_has_all_its_fields(grammar):
    compiled = grammar.compile(bounded=False)
    for text in ("", "a", "a1,b", 'x"ab"x', "aab ,1"):
        found = compiled.match(text, 0)
        if found is not None and compiled.names:
            assert set(found[1]) == set(compiled.names)
