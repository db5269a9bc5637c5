"""The line of each key in a TOML document."""

import tomllib

import pytest

from hastack._config._toml_lines import key_lines

DOCUMENT = '''\
# a comment with [a.table] and key = 1
top = 1
"quoted key" = "a # no comment"
'literal' = 'x'
a.b."c.d" = 2

[table]
text = """
[not.a.table]
key = 1 \\""" still "" text"""
raw = \'\'\'
other = 2
\'\'\'
list = [
  1, # one
  "two, ]",
  [3, 4],
  { x = 1, y.z = 2 },
]
inline = { p = "}", q = { r = [1, 2] } }
date = 1979-05-27 07:32:00
neg = -1.5e3

[table.sub]  # after
x = true

[[many]]
n = 1
[many.inner]
m = 2

[[many]]
n = 3
[[many.deep]]
d = 4
[[many.deep]]
d = 5
["a b"."c"]
e = "\\u00e9"
"\\u00e9" = 1
'''

EXPECTED = {
    ("top",): 2,
    ("quoted key",): 3,
    ("literal",): 4,
    ("a", "b", "c.d"): 5,
    ("table",): 7,
    ("table", "text"): 8,
    ("table", "raw"): 11,
    ("table", "list"): 14,
    ("table", "list", 0): 15,
    ("table", "list", 1): 16,
    ("table", "list", 2): 17,
    ("table", "list", 2, 1): 17,
    ("table", "list", 3): 18,
    ("table", "list", 3, "x"): 18,
    ("table", "list", 3, "y", "z"): 18,
    ("table", "inline"): 20,
    ("table", "inline", "p"): 20,
    ("table", "inline", "q", "r", 1): 20,
    ("table", "date"): 21,
    ("table", "neg"): 22,
    ("table", "sub"): 24,
    ("table", "sub", "x"): 25,
    ("many",): 27,
    ("many", 0): 27,
    ("many", 0, "n"): 28,
    ("many", 0, "inner"): 29,
    ("many", 0, "inner", "m"): 30,
    ("many", 1): 32,
    ("many", 1, "n"): 33,
    ("many", 1, "deep", 0, "d"): 35,
    ("many", 1, "deep", 1): 36,
    ("many", 1, "deep", 1, "d"): 37,
    ("a b", "c"): 38,
    ("a b", "c", "e"): 39,
    ("a b", "c", "é"): 40,
}


def paths(value, at=()):
    """Every path of a parsed document."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield (*at, key)
            yield from paths(each, (*at, key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield (*at, number)
            yield from paths(each, (*at, number))


@pytest.mark.parametrize(("path", "line"), EXPECTED.items())
def test_lines(path, line):
    assert key_lines(DOCUMENT)[path] == line


def test_every_key_is_found_and_none_invented():
    found = set(key_lines(DOCUMENT))
    # A table opened only by the name of another has no line of its own.
    implied = {("a b",)}
    assert found | implied == set(paths(tomllib.loads(DOCUMENT)))


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# only", "a=1", 'a=""', "a=[]", "a={}", "[a]", "a=[[],]"]
)
def test_small_documents(text):
    assert set(key_lines(text)) == set(paths(tomllib.loads(text)))
