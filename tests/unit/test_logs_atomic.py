"""Possessive repetitions written as atomic groups, for interpreters that get them wrong."""

import pytest

from hastack.observe.logs._atomic import as_atomic, compile_regex


@pytest.mark.parametrize(
    ("pattern", "written"),
    [
        ("a*+b", "a*+b"),  # of one character they are right everywhere
        ("(?:ab?c)?+", "(?>(?:ab?c)?)"),
        ("(?:a)*+(?:b)++", "(?>(?:a)*)(?>(?:b)+)"),
        ("(?:a(b)?+){1,3}+c", "(?>(?:a(?>(b)?)){1,3})c"),
        ("(?:a){2}+(?:b){,3}", "(?>(?:a){2})(?:b){,3}"),
        (r"\((?:a\))*+[()*+]*+[^]()]?", r"\((?>(?:a\))*)[()*+]*+[^]()]?"),
        (r"[](\]]*+(?:[^\]])++", r"[](\]]*+(?>(?:[^\]])+)"),
        (r"\)*+", r"\)*+"),
    ],
)
def test_groups_only(pattern, written):
    assert as_atomic(pattern) == written


@pytest.mark.parametrize(
    ("pattern", "text", "end"),
    [
        # python/cpython#106052 and #100061: before 3.11.5 these were matched wrongly.
        ("(?:ab?c)?+", "a", 0),
        ("(?:ab?c)*+", "abcacab", 5),
        ("(?:(?!--).)*+--", "a-b--", 5),
        ("(?:(?!C).)++", "ABC", 2),
        ("(?:a|ab)*+c", "abc", None),
        ("(?:(a)|b())*+", "ab\n", 2),
        (".*+", "a\nb", 3),
    ],
)
@pytest.mark.parametrize("how", [{}, {"right": False}])
def test_they_mean_what_they_should(pattern, text, end, how):
    found = compile_regex(pattern, **how).match(text)
    assert (found and found.end()) == end
