"""Combinators: what they mean, what they refuse, how they say why a line does not match."""

import pickle
from datetime import UTC, datetime, timedelta, timezone

import parsy
import pytest

from hastack.errors import InvalidArgument
from hastack.observe.logs import _leaf_bounds
from hastack.observe.logs import combinators as c
from hastack.observe.logs._bounds import cost
from hastack.observe.logs._nodes import Derive, Leaf, Many, Node, Scan, Seq


def both(parser, text):
    """The value of a line, by parsy and compiled; they must agree."""
    fast = parser.compile(bounded=False).try_parse(text)
    try:
        slow = parser.parse(text)
    except parsy.ParseError:
        slow = None
    assert fast == slow
    return fast


def test_a_sequence_is_a_record_of_its_fields_or_a_list():
    assert both(c.seq("a", c.integer), "a7") == ["a", 7]
    assert both(c.seq("a", c.field("n", c.integer)), "a7") == {"n": 7}
    nested = c.seq(
        c.field("x", c.seq(c.field("n", c.integer), ",")), c.seq(c.field("m", c.integer))
    )
    assert both(nested, "1,2") == {"x": {"n": 1}, "m": 2}


def test_alternatives_are_ordered_and_final():
    assert both(c.alt(c.lit("a"), c.lit("ab")), "ab") is None
    assert both(c.seq(c.alt("a", "ab"), "c"), "abc") is None
    shapes = c.alt(c.field("n", c.integer), c.seq("#", c.field("name", c.token())), "none")
    assert both(shapes, "7") == {"n": 7, "name": None}
    assert both(shapes, "#x") == {"n": None, "name": "x"}
    assert both(shapes, "none") == {"n": None, "name": None}


def test_optional_parts():
    assert both(c.seq(c.opt("a", "no"), "b"), "b") == ["no", "b"]
    assert both(c.seq(c.opt(c.field("n", c.integer)), "b"), "b") == {"n": None}
    assert both(c.integer.optional(3), "") == 3
    late = c.seq(c.opt(c.seq(c.field("a", c.integer), ",")), c.field("b", c.integer))
    assert both(late, "12") == {"a": None, "b": 12}
    assert both(late, "1,2") == {"a": 1, "b": 2}


def test_optional_parts_within_optional_parts():
    assert both(c.opt(c.opt(c.field("n", c.opt("1", "no")))), "") == {"n": "no"}
    assert both(c.seq(c.opt(c.seq("a", c.field("n", c.opt("1", "no")))), "b"), "b") == {"n": None}


def test_the_furthest_miss_counts():
    line = c.alt(c.seq("a", "b", "c"), c.seq("a", "x"), "y")
    assert str(line.compile().explain("abz")) == "column 3: expected 'c'"


def test_repetitions():
    assert both(c.many(c.lit("ab"), most=2), "abab") == ["ab", "ab"]
    assert both(c.many(c.lit("a"), least=2), "a") is None
    assert both(c.lit("a").times(2), "aa") == ["a", "a"]
    assert both(c.lit("a").times(1, float("inf")), "aaa") == ["a"] * 3
    assert both(c.lit("a").many(), "") == []
    assert both(c.sep_by(c.integer, ","), "1,2,3") == [1, 2, 3]
    assert both(c.integer.sep_by(c.lit(",")), "") == []
    assert both(c.seq(c.integer.sep_by(c.lit(","), max=2), ","), "1,2,") == [[1, 2], ","]
    assert both(c.sep_by(c.integer, ",", least=2), "1") is None
    assert both(
        c.many(c.seq(c.field("k", c.token(stop="=")), "=", c.field("v", c.regex("[^;]*+")), ";")),
        "a=1;b=2;",
    ) == [
        {"k": "a", "v": "1"},
        {"k": "b", "v": "2"},
    ]


def test_operators():
    assert both(c.lit("a") >> c.integer, "a1") == 1
    assert both(c.integer << c.lit("a"), "1a") == 1
    assert both(c.integer << parsy.eof, "1") == 1
    assert both(c.field("n", c.integer) << c.lit("a"), "1a") == {"n": 1}
    assert both(c.lit("a") | c.lit("b"), "b") == "b"
    assert both(c.integer.map(lambda n: n + 1), "1") == 2
    assert repr(c.field("n", c.integer)) == "<Parser of n>"
    assert repr(c.integer) == "<Parser of Leaf>"


def test_texts_and_words():
    assert both(c.quoted(), '"a \\"b\\" \\\\"') == 'a "b" \\'
    assert both(c.quoted(), '"plain"') == "plain"
    assert both(c.quoted("'", escape=""), "'a\\'") == "a\\"
    assert both(c.quoted(), '"open') is None
    assert both(c.seq(c.until("]"), "]"), "[") is None
    assert both(
        c.many(c.seq("<", c.regex("[]^)(]"), c.regex("[^](]"), c.regex(r"\("))), "<]x("
    ) == [["<", "]", "x", "("]]
    assert both(c.seq(c.until("]"), "]"), "a[b]") == ["a[b", "]"]
    assert both(c.seq(c.until("--"), "--"), "a-b--") == ["a-b", "--"]
    assert both(c.seq(c.token(stop="]^-\\"), c.rest), "ab-c") == ["ab", "-c"]
    assert both(c.seq(c.spaces, c.rest), " \t") == [" \t", ""]


def test_foreign_parsers_fit_in_and_the_rest_stays_fast():
    digits = parsy.regex("[0-9]+").map(int)
    line = c.seq(c.field("a", c.token()), " ", c.field("n", digits), " ", c.field("b", c.rest))
    assert both(line, "x 12 y z") == {"a": "x", "n": 12, "b": "y z"}
    compiled = line.compile(bounded=False)
    assert not compiled.fused
    assert len(compiled._reader.patterns) == 2
    assert both(c.seq("a", digits, "b", "c"), "a1bc") == ["a", 1, "b", "c"]
    assert both(c.alt(digits, "x"), "x") == "x"
    assert (parsy.string("<") >> c.integer << parsy.string(">")).parse("<5>") == 5
    assert c.integer.bind(lambda n: parsy.string("x" * n)).parse("2xx") == "xx"

    @parsy.generate
    def pair():
        left = yield c.integer
        yield parsy.string("/")
        right = yield c.integer
        return left, right

    assert pair.parse("1/2") == (1, 2)
    assert both(c.seq(c.field("p", pair), c.field("rest", c.rest)), "1/2!") == {
        "p": (1, 2),
        "rest": "!",
    }


def test_what_cannot_be_converted_rejects_the_line():
    date = c.alt(c.field("t", c.iso_time()), c.field("text", c.rest))
    assert both(date, "2020-02-30T00:00:00Z") is None
    assert both(date, "2020-02-x") == {"t": None, "text": "2020-02-x"}

    def refuse(value):
        raise ValueError

    assert both(c.seq("a", c.integer.map(refuse)), "a1") is None
    assert both(c.seq(c.field("a", c.lit("a")), c.integer.map(refuse)), "a1") == {"a": "a"}
    assert both(c.many(c.seq("a", c.integer.map(refuse))), "a1a2") is None
    with pytest.raises(c.LineError, match="column 2: expected another value"):
        c.seq("a", c.integer.map(refuse)).compile().parse("a1")


def test_errors_say_where_and_what():
    line = c.seq(c.field("ip", c.ip), " ", c.alt(c.lit("GET"), c.lit("PUT")))
    compiled = line.compile()
    with pytest.raises(c.LineError) as caught:
        compiled.parse("10.0.0.1 POST")
    error = caught.value
    assert str(error) == "column 10: expected 'GET' or 'PUT'"
    assert (error.at, error.line, error.column) == (9, 1, 10)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(compiled.explain("10.0.0.1 GET!")) == "column 13: expected the end of the line"
    assert str(compiled.explain("")) == "column 1: expected an IP address"
    two = c.seq("a\n", "b").compile().explain("a\nc")
    assert str(two) == "line 2, 1: expected 'b'"
    assert str(c.LineError("x", 0, ())) == "column 1: expected something else"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: c.many(c.opt("a")), "match nothing, again and again"),
        (lambda: c.many(c.alt(c.seq(c.until("]"), "]"), c.regex("."))), "read far in vain"),
        (lambda: c.many(c.seq(c.opt(c.quoted()), c.regex("."))), "read far in vain"),
        (lambda: c.sep_by(c.opt(c.seq(c.token(), "x")), ","), "read far in vain"),
        (lambda: c.seq(parsy.regex("a+")), "foreign parser"),
        (
            lambda: c.many(c.alt(c.many(c.alt(c.seq(c.token(), "!"), c.regex("."))), "b")),
            "read far",
        ),
    ],
)
def test_what_cannot_be_bound_is_refused_with_the_reason(make, reason):
    with pytest.raises(c.Unbounded, match=reason):
        make().compile()


@pytest.mark.parametrize(
    "make",
    [
        lambda: c.many(c.seq(c.token(), c.opt(c.spaces))),
        lambda: c.sep_by(c.alt(c.integer, c.token(stop=",")), ","),
        lambda: c.many(c.quoted()),
        lambda: c.many(c.opt("a"), most=3),
        lambda: c.many(c.alt(c.seq(c.until("]"), "]"), c.regex(".")), most=5),
        lambda: c.seq(c.json_value, c.pairs),
        lambda: c.field("x", c.integer.map(str)),
    ],
)
def test_what_can_be_bound_is_accepted(make):
    assert make().compile().names is not None


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(a)", "groups that capture"),
        ("(?:a+)+", "inside another"),
        ("(?:a|b+)*x", "inside another"),
        ("a*a", "begin with 'a'"),
        ("[ab]*(?:c|b)", "begin with 'b'"),
        (".*x", "begin with 'x'"),
        (r"\d+\.?\d*x", "begin with '0'"),
        (r"\w*(?:x?y)", "begin with 'x'"),
        (r"[^a]*(?:b{1,2})", "begin with 'b'"),
        (r"(?:[\s\d])*[\S]?\W*\D", "begin with"),
        ("a(?=b*c)", "look-around"),
    ],
)
def test_expressions_that_may_run_away_are_refused(pattern, reason):
    with pytest.raises(c.Unbounded, match=reason):
        c.regex(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "a*b",
        "a*+a",
        "(?>a*)a",
        "[^,]*,",
        r"\d+(?:\.\d+)?",
        "(?:ab){1,9}",
        "a+?b",
        "(?:a|b)*c",
        "a(?=b)",
        "a*(?:b*c)",
        r"\d+\.?\d*",
        "(?i:a)b*",
        "[^x]",
        "x{2}y*",
        "(?!a)b",
    ],
)
def test_expressions_that_cannot_are_accepted(pattern):
    assert c.regex(pattern).compile()


@pytest.mark.parametrize(
    "pattern",
    [
        "a*[^a]",
        r"[\s\d]*[a-f]",
        "a*(?:)b",
        "a*(?:b?)c",
        "(?:ab)*c",
        "(?>ab)*c",
        "(?:(?:a|b)c)*d",
        "a*(?>b)c",
        "a*(?:b|)c",
        "a*(?:b|c)",
        "(?:[^x]y?)*?x",
        "(?:(?i:a)(?>b))*c",
        "a*(?i:b)c",
        "a*(?i:b?)c",
        "a*(?=b)b",
        "[a-c]*[^a-z]",
        r"(?:a\b)*c",
        "a*(?:b?|ce)d",
        "a*[bc]",
        "a*(?:[bc]d|ef)g",
        "a*(?:bb|cc)",
    ],
)
def test_more_expressions_that_cannot(pattern):
    assert c.regex(pattern).compile()


def test_a_separator_is_never_converted():
    def refuse(value):
        raise ValueError

    assert both(c.sep_by(c.integer, c.lit(",").map(refuse)), "1,2") == [1, 2]


def test_a_reference_back_is_refused():
    with pytest.raises(c.Unbounded, match="groups"):
        c.regex(r"(a)\1")
    with pytest.raises(c.Unbounded, match="reference back"):
        _leaf_bounds._walk([(_leaf_bounds.op.GROUPREF, 1)], inside=False, after=[])


@pytest.mark.parametrize(
    ("pattern", "reads_on"),
    [
        ("a*", False),
        ("a*b", True),
        ("(?>a*)", False),
        ("(?>a*b)", True),
        ("(?:ab)*", False),
        ("a*(?=b)", True),
        ("(?:a*|b)", True),
        ("ab", False),
        ("a*b?", False),
        ("(?:a{1,3})*", False),
    ],
)
def test_reading_on(pattern, reads_on):
    assert _leaf_bounds.may_read_on(pattern) is reads_on


def test_costs():
    assert cost(c.lit("a").node).fails
    assert not cost(c.opt("a").node).fails
    assert cost(Scan(lambda t, a: None, expected="x")).waste
    assert cost(c.alt("a", c.opt("b")).node).fails is False


@pytest.mark.parametrize(
    ("make", "parameter"),
    [
        (lambda: c.alt(), "parsers"),
        (lambda: c.seq(3), "parser"),
        (lambda: c.seq(""), "parser"),
        (lambda: c.field("", "a"), "name"),
        (lambda: c.many("a", least=-1), "least"),
        (lambda: c.many("a", least=3, most=2), "most"),
        (lambda: c.quoted("ab"), "quote"),
        (lambda: c.quoted('"', escape='"'), "escape"),
        (lambda: c.until(""), "stop"),
        (lambda: c.regex("("), "pattern"),
    ],
)
def test_bad_arguments_are_named(make, parameter):
    with pytest.raises(InvalidArgument) as caught:
        make()
    assert caught.value.parameter == parameter


def test_a_node_of_ones_own():
    node = Node()
    node.names = ()
    assert list(node.children()) == []
    assert node.value(3) == 3
    assert node.nothing() is None
    with pytest.raises(NotImplementedError):
        node.match("", 0, None)
    assert Many(Leaf("a", None, expected="a")).nothing() is None
    assert Seq([]).match("x", 0, None) == (0, [])


# -- values -------------------------------------------------------------------------------

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PST = timezone(timedelta(hours=-8))


def at(*parts, zone=UTC):
    return datetime(*parts, tzinfo=zone)


@pytest.mark.parametrize(
    ("parser", "text", "value"),
    [
        (c.iso_time(), "2020-01-02T03:04:05Z", at(2020, 1, 2, 3, 4, 5)),
        (c.iso_time(), "2020-01-02 03:04:05,123", at(2020, 1, 2, 3, 4, 5, 123000)),
        (c.iso_time(PST), "2020-01-02 03:04:05", at(2020, 1, 2, 11, 4, 5)),
        (c.iso_time(), "2020-01-02t03:04:05.1234567z", at(2020, 1, 2, 3, 4, 5, 123456)),
        (c.iso_time(), "2020-01-02T03:04:05 +0530", at(2020, 1, 1, 21, 34, 5)),
        (c.iso_time(), "2016-12-31T23:59:60Z", at(2017, 1, 1)),
        (c.iso_time(), "2020-13-02T03:04:05Z", None),
        (c.clf_time, "10/Oct/2000:13:55:36 -0700", at(2000, 10, 10, 20, 55, 36)),
        (c.clf_time, "31/Dec/2016:23:59:60 +0000", at(2017, 1, 1)),
        (c.clf_time, "31/Feb/2016:23:59:59 +0000", None),
        (c.http_time, "Sun, 06 Nov 1994 08:49:37 GMT", at(1994, 11, 6, 8, 49, 37)),
        (c.ctime(), "Thu Oct 11 22:14:15.5 2001", at(2001, 10, 11, 22, 14, 15, 500000)),
        (c.ctime(PST), "Mon Jan  1 00:00:00 2001", at(2001, 1, 1, 8)),
        (c.epoch_time, "1700000000", at(2023, 11, 14, 22, 13, 20)),
        (c.epoch_time, "1700000000.25", at(2023, 11, 14, 22, 13, 20, 250000)),
        (c.epoch_time, "1700000000123", at(2023, 11, 14, 22, 13, 20, 123000)),
        (c.epoch_time, "1700000000123456", at(2023, 11, 14, 22, 13, 20, 123456)),
        (c.epoch_time, "1700000000123456789", at(2023, 11, 14, 22, 13, 20, 123456)),
        (c.syslog_time(now=lambda: NOW), "Mar  2 11:00:00", at(2026, 3, 2, 11)),
        (c.syslog_time(now=lambda: NOW), "Mar  3 11:00:00", at(2025, 3, 3, 11)),
        (c.syslog_time(now=lambda: NOW), "Feb 29 11:00:00.5", at(2024, 2, 29, 11, 0, 0, 500000)),
        (c.syslog_time(now=lambda: NOW), "Feb 30 11:00:00", None),
        (c.syslog_time(PST, lambda: NOW), "Jan 1 00:00:00", at(2026, 1, 1, 8)),
        (c.glog_time(now=lambda: NOW), "0228 01:02:03.000004", at(2026, 2, 28, 1, 2, 3, 4)),
        (c.boolean, "Yes", None),
        (c.boolean, "yes", True),
        (c.boolean, "off", False),
        (c.hexadecimal, "0xff", 255),
        (c.number, "-1.5e-3", -0.0015),
        (c.integer, "-12", -12),
        (c.duration, "1h2m3.5s", 3723.5),
        (c.duration, "-250 ms", -0.25),
        (c.duration, "5 apples", None),
        (c.size, "1.5MB", 1_500_000),
        (c.size, "4 KiB", 4096),
        (c.size, "12G", 12 * 1024**3),
        (c.uuid, "123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
        (c.url, "https://a/b?c=d", "https://a/b?c=d"),
        (c.json_value, '{"a": [1, {}]}', {"a": [1, {}]}),
        (c.json_value, "[" * 100_000, None),
        (c.json_value, "7", None),
        (c.json_value, "{", None),
        (c.pairs, 'a=1 b="x \\"y\\"" c="z"', {"a": "1", "b": 'x "y"', "c": "z"}),
        (c.pairs, "nothing", None),
        (c.seq(c.pairs, c.rest), "a=1 b", [{"a": "1"}, " b"]),
        (c.ip, "10.0.0.256", None),
    ],
)
def test_values(parser, text, value):
    assert both(parser, text) == value


def test_now_is_asked_for_when_nobody_says_it():
    found = c.syslog_time().parse("Jan  1 00:00:00")
    assert timedelta(0) <= datetime.now(UTC) - found < timedelta(days=367)


def test_times_are_remembered_but_not_for_ever():
    seen = [
        c.clf_time.parse(f"{day:02}/Jan/{year}:00:00:00 +0000")
        for year in range(1970, 2010)
        for day in range(1, 32)
    ]
    assert len(set(seen)) == 40 * 31


def test_parts_that_the_formats_are_made_of():
    word = c.Parser(Leaf("[^ ]++", str.upper, expected="a word", nil="-", rare="x"))
    line = c.seq(c.field("a", word), " ", c.field("b", word))
    assert both(line, "- ax") == {"a": None, "b": "AX"}
    assert both(line, "b -") == {"a": "b", "b": None}
    number = Leaf("[0-9]+", None, expected="a number")
    halves = c.Parser(
        Derive(number, {"half": (lambda t: int(t) // 2, "int"), "text": (str, "str")})
    )
    assert both(c.seq("<", halves, ">"), "<42>") == {"half": 21, "text": "42"}
    assert both(c.opt(c.seq("<", halves, ">")), "") == {"half": None, "text": None}

    def refuse(text):
        raise ValueError(text)

    refused = c.Parser(Derive(number, {"x": (refuse, "int")}))
    assert both(refused, "1") is None
    assert "a number" in str(refused.compile().explain("1"))


def test_a_choice_of_very_many():
    words = c.alt(*(c.lit(f"w{number};") for number in range(1000)))
    assert both(c.field("w", words), "w999;") == {"w": "w999;"}
    records = c.alt(*(c.seq(f"k{number}=", c.field("v", c.integer)) for number in range(300)))
    assert both(records, "k299=7") == {"v": 7}
