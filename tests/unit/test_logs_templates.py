"""Template mining: what becomes a value, which lines come together, what stays bounded."""

import itertools
import json
import pickle
import random
import re

import pytest

from hastack.errors import InvalidArgument
from hastack.observe import logs
from hastack.observe.logs import templates
from hastack.observe.logs._template_form import Form, first_form
from hastack.observe.logs._template_mine import edges, judge
from hastack.observe.logs._template_tokens import HOLE, LIST, OPEN, TAIL, mask
from hastack.observe.logs.templates import Header, TemplateMiner, detect_header

USERS = ("ada", "grace", "edsger", "linus", "barbara", "donald")


def texts(lines, **options):
    return {row.text: row.count for row in TemplateMiner(**options).fit(lines).templates()}


@pytest.mark.parametrize(
    ("token", "masked"),
    [
        ("17", "*"),
        ("-3.5e+10,", "*,"),
        ("10.1.2.3:80", "*:*"),
        ("/10.1.2.3:80", "/*:*"),
        ("blk_-17", "blk_*"),
        ("rdd_1_22", "rdd_*_*"),
        ("attempt_1_2_m_3", "attempt_*"),
        ("node-7", "node-*"),
        ("jk2_init()", "jk*_init()"),
        ("10ms", "*ms"),
        ("0x7f,", "*,"),
        ("deadbeef", "deadbeef"),
        ("dead8eef", "*"),
        ("7f6b3c61-23aa-4b6e-9d12-0123456789ab", "*"),
        ("aa:bb:cc:01:02:03", "*"),
        ("/var/log/syslog", "*"),
        ("and/or", "and/or"),
        (r"C:\Windows\System32", "*"),
        ("http://a.example/x?y=1", "*"),
        ("www.example.org:443", "*:*"),
        ("org.apache.hadoop.Task", "org.apache.hadoop.Task"),
        ("2026-11-25T03:00:00Z", "*"),
        ("03:15:00,123", "*"),
        ("force=false,", "force=*,"),
        ('tag="RIL"', 'tag="*"'),
        ("true,", "*,"),
        ("truely", "truely"),
        ("<1", "*"),
        ("x" * 2000, "*"),
        ("word.", "word."),
    ],
)
def test_what_a_value_looks_like(token, masked):
    shape = re.sub("[1-9]", "0", token)
    assert mask(shape).replace(HOLE, "*") == masked


def test_words_become_values_once_enough_were_seen():
    two = texts(f"session opened for user {user}" for user in USERS[:2])
    assert two == {f"session opened for user {user}": 1 for user in USERS[:2]}
    assert texts(f"session opened for user {user}" for user in USERS) == {
        "session opened for user <*>": 6
    }


def test_events_stay_apart():
    lines = [f"unit web.service {what} now" for what in ("started", "stopped", "failed")] * 50
    assert len(texts(lines)) == 3
    methods = [
        f'10.0.0.1 "{m} /a/b/c HTTP/1.1" 200' for m in ("GET", "PUT", "POST", "HEAD", "DELETE")
    ]
    assert len(texts(methods)) == 5


def test_a_word_among_numbers_is_a_value():
    lines = ["listening at port 80", "listening at port 443", "listening at port none"]
    assert texts(lines) == {"listening at port <*>": 3}


def test_a_key_is_no_value():
    assert len(texts([f"set {key}=1 done" for key in ("a", "b", "c", "d", "e", "f", "g")])) == 7
    assert texts([f"set owner={user} done" for user in USERS]) == {"set owner=<*> done": 6}


def test_two_columns_of_names_at_once():
    lines = [f"Registering class a.B{c}x for class d.E{c}y" for c in "abcdefgh"]
    assert texts(lines) == {"Registering class <*> for class <*>": 8}


def test_a_case_of_a_more_general_template_goes_into_it():
    miner = TemplateMiner()
    early = miner.add("copied by user zoe to host pluto now")
    for user in USERS:
        miner.add(f"copied by user {user} to host mars now")
    for host in ("venus", "saturn", "jupiter"):
        miner.add(f"copied by user ada to host {host} now")
    miner.templates()
    assert early.template_id == miner.match("copied by user ada to host mars now").template_id
    assert len(miner) == 1


def test_templates_that_are_open_elsewhere_stay_apart():
    lines = [f"copied by user {user} to host mars now" for user in USERS]
    lines += [f"copied by user ada to host {host} now" for host in ("venus", "saturn", "juno")]
    lines += ["copied by user ada to hall mars now"]
    assert len(texts(lines)) == 2
    lines += ["linked by user ada to host mars now", "linked by user tim to host venus now"]
    assert len(texts(lines)) == 4


def test_empty_values_and_edges():
    lines = ["connect (a.b.example.org) at 5", "connect () at 7"]
    assert texts(lines) == {"connect (<*>) at <*>": 2}


def test_dates_by_name():
    assert texts(["since Wed Jul 27 10:59:53 2005", "since Sun Jun 5 00:00:00 2005"]) == {
        "since <*> <*> <*> <*> <*>": 2
    }
    assert texts(["Jul is a month"]) == {"Jul is a month": 1}


def test_blanks_inside_values():
    lines = ["closed, lifetime <1 sec", "closed, lifetime 00:17"]
    assert texts(lines) == {"closed, lifetime <*>": 2}
    lines = ['lock tag="View Lock", pid=1', 'lock tag="RIL", pid=2']
    assert texts(lines) == {'lock tag="<*>", pid=<*>': 2}
    match = TemplateMiner().fit(lines).match(lines[0])
    assert match.fields == {"tag": "View Lock", "pid": 1}
    assert match.render() == lines[0]
    # The mark that joins them is in the line already: nothing is joined.
    assert TemplateMiner().add('a="b c" \4').render() == 'a="b c" \4'


def test_lists_of_any_length():
    lines = ["delete blk_1 blk_22 now", "delete blk_3 blk_4 blk_5 blk_6 now", "delete blk_7 now"]
    for order in (lines, lines[::-1]):
        miner = TemplateMiner()
        for line in order:
            miner.add(line)
        assert [row.text for row in miner.templates()] == ["delete <*> now"]
        match = miner.match(lines[1])
        assert match.values == ("blk_3 blk_4 blk_5 blk_6",)
        assert match.fields == {"blk": match.values[0]}
        assert match.render() == lines[1]
    assert texts(lines) == {"delete <*> now": 3}


def test_lists_do_not_depend_on_the_order():
    lines = ["cut dn1 dn2 off", "cut dn3 off", "cut dn1 dn5 dn7 off", "7", "0 0 0"]
    for order in itertools.permutations(lines):
        assert texts(order) == {"cut <*> off": 3, "<*>": 1, "<*> <*> <*>": 1}


def test_lists_behind_other_values():
    lines = [f"resolve for user {user} {'dn1 ' * (2 + n)}failed" for n, user in enumerate(USERS)]
    lines += [f"resolve for user {user} dn1 dn1 failed" for user in USERS]
    lines += [f"resolve for user {user} dn1 dn1 dn1 failed" for user in USERS]
    assert texts(lines) == {"resolve for user <*> <*> failed": 18}


def test_neighbours_of_one_length_are_no_list():
    assert texts(["report: 1 2 3 4", "report: 5 6 7 8"]) == {"report: <*> <*> <*> <*>": 2}
    # Too short to be one.
    assert len(texts(["report: 1 2", "report: 5"])) == 2


def test_lists_join_other_values():
    lines = [f"resolve for user {user} dn1 dn2 dn3 failed" for user in USERS]
    lines += ["resolve for user ada dn1 dn2 failed", "resolve for user tim dn1 dn2 dn3 dn4 failed"]
    miner = TemplateMiner().fit(lines)
    for line in lines:
        assert miner.match(line).render() == line


def test_fixed_digits_and_truths_are_text_until_they_change():
    miner = TemplateMiner()
    assert miner.add("ssh2 ready is true").text == "ssh2 ready is true"
    assert miner.match("ssh3 ready is true") is None
    match = miner.add("ssh3 ready is false")
    assert match.text == "ssh<*> ready is <*>"
    assert match.fields == {"ssh": 3, "ready": False}


def test_a_value_that_holds_its_separator():
    miner = TemplateMiner()
    for line in ("at 10:20:30.40:50 done", "a::5 done", "x=a,b,7=c done", "-5-6-7", "--5"):
        assert miner.add(line).render().split() == line.split()


def test_a_value_that_never_fits_its_mask_is_the_whole_token():
    match = TemplateMiner().add("at 0.5.=0-7 done")
    assert (match.text, match.values) == ("at <*> done", ("0.5.=0-7",))


def test_names_of_packages_need_two_only():
    lines = [f"loaded {name} and ran" for name in ("com.a.b.Net", "com.a.b.Disk")]
    assert texts(lines) == {"loaded <*> and ran": 2}
    states = [f"got intent {name} now" for name in ("com.a.b.SCREEN_ON", "com.a.b.SCREEN_OFF")]
    assert len(texts(states)) == 2


def test_names_behind_a_noun_and_in_quotes():
    lines = ["seen via interface eth0 now", "seen via interface wlan1 now"]
    assert texts(lines) == {"seen via interface <*> now": 2}
    lines = [f"ran service '{name}' once" for name in ("web", "mail", "dns")]
    assert texts(lines) == {"ran service '<*>' once": 3}


def test_composed_values_and_units():
    lines = ["package KB1~a2 is 5 KB big", "package Core-3~b4_SP1 is 7 MB big"]
    assert texts(lines) == {"package <*> is <*> <*> big": 2}


def test_lines_of_which_many_words_vary_at_once():
    draw = random.Random(5)
    names = ["".join(draw.choices("abcdefgh", k=6)) for _ in range(400)]
    lines = [
        f"event {a} in {b} seen by {c} now" for a, b, c in zip(*[iter(names)] * 3, strict=False)
    ]
    assert texts(lines) == {"event <*> in <*> seen by <*> now": 133}


def test_names_and_types():
    miner = TemplateMiner()
    for n in range(20):
        match = miner.add(
            f"id {n} from 10.0.0.{n}:80{n} size={n}.5 read {n} bytes, at {n} MB seq (17) 5 x_7 ago"
        )
    assert match.fields == {
        "arg": 19,
        "ip": "10.0.0.19",
        "port": 8019,
        "size": 19.5,
        "read": 19,
        "mb": 19,
        "seq": 17,
        "arg_2": 5,
        "x": 7,
    }


def test_fields_of_a_template_that_changed_since():
    miner = TemplateMiner()
    first = miner.add("mode true, step 5")
    miner.add("mode false, step 6")
    assert first.text == "mode true, step <*>"
    assert first.fields == {"step": 5}
    assert first.template == first.text
    assert "mode true" in repr(first)


def test_types_follow_the_majority():
    miner = TemplateMiner().fit([f"value={v} end" for v in (*range(9), "-", "none")])
    (row,) = miner.templates()
    (slot,) = row.slots
    assert (slot.name, slot.type, slot.confidence) == ("value", "int", 1.0)
    assert miner.match("value=none end").fields == {"value": None}
    assert miner.match("value=many end").fields == {"value": "many"}


def test_samples_go_on_after_the_first_lines():
    miner = TemplateMiner()
    for n in range(200):
        miner.add(f"n={n} x")
    assert len(miner._index.entries[1].samples) == 32
    assert miner.templates()[0].count == 200


@pytest.mark.parametrize(
    "line", ["", " ", "\0", "\1\2\3\4", "<*>", "<*> 5", "a\tb\x1c7", "\ud800 1", "é7"]
)
def test_odd_lines(line):
    miner = TemplateMiner()
    match = miner.add(line)
    assert match.render().split() == line.split()
    assert miner.match(line).template_id == match.template_id
    assert miner.templates()[0].named.split() or not line.split()


def test_a_parser_names_what_no_format_knows():
    lines = [f"<{n}> user {user} took {n}.5 s, message {n}" for n, user in enumerate(USERS)]
    miner = TemplateMiner(header=None).fit(lines)
    batch = logs.Parser([], templates=miner).parse_lines(lines)
    assert batch.formats[-1].name == "template"
    assert batch.records[-1] == {
        "template": "<<*>> user <*> took <*> s, message <*>",
        "message": lines[-1],
        "arg": 5,
        "user": "donald",
        "took": 5.5,
        "message_2": 5,
    }


def test_named_text():
    miner = TemplateMiner().fit(["took 5 ms"])
    assert miner.templates()[0].named == "took <took:int> ms"
    assert TemplateMiner().fit(["<*> 5"]).templates()[0].named == "<*> <*>"


def test_blanks_are_kept_for_reading():
    assert texts(["rhost=10.0.0.1  user=root"]) == {"rhost=<*>  user=root": 1}
    assert texts(["a\tb"]) == {"a b": 1}


def test_long_lines_have_a_tail():
    miner = TemplateMiner(max_tokens=4, max_chars=40)
    match = miner.add("a b c d e f")
    assert (match.text, match.values) == ("a b c <*>", ("d e f",))
    assert match.fields == {"rest": "d e f"}
    assert miner.add("a b c x  y " + "z" * 100).template_id == match.template_id
    assert miner.add("a b " + "z" * 100).values == ("z" * 100,)
    assert miner.add("a b c d").text == "a b c d"
    assert miner.add("q" * 1000).values == ("q" * 1000,)


def test_long_lines_leave_little_behind():
    miner = TemplateMiner()
    for n in range(40):
        match = miner.add(f"got {n} of " + "word " * 100_000)
        miner.add(f"{n} " + " ".join(f"k{i}q" + "x" * 900 for i in range(8)))
    assert match.render().split()[:4] == ["got", "39", "of", "word"]
    assert len(miner.dump()) < 200_000
    assert sum(map(len, miner._index.known)) < 20_000


def test_hostile_lines_stay_cheap():
    miner = TemplateMiner()
    for line in (
        "a" * 1_000_000,
        "1" * 1_000_000,
        "a " * 500_000,
        "=" * 1_000_000,
        '="' * 500_000,
        " <1" * 300_000,
        "[" * 1_000_000,
        ":" * 1_000_000,
        "/" * 8000,
        "a." * 4000,
        "1:" * 500,
        "0-" * 500,
        "\0" * 8000,
    ):
        assert miner.add(line).render().split() == line.split()
        assert miner.match(line) is not None


def test_many_distinct_tokens_stay_bounded():
    miner = TemplateMiner(max_templates=50, max_patterns=100)
    draw = random.Random(3)
    for n in range(2_000):
        word = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=6))
        other = "".join(draw.choices("ABCDEFGHIJ", k=6))
        miner.add(f"{word} {other}" if n % 3 else word)
        index = miner._index
        assert len(miner) <= 50
        assert len(index.known) <= 100
        assert len(index.aliases) <= 100
        assert len(miner._reader._masked) <= 100
    assert miner.evicted > 0
    held = sum(len(ids) for ids in miner._index._lengths.values())
    assert held == len(miner) == len(miner._index._rows)


def test_the_templates_in_use_survive():
    miner = TemplateMiner(max_templates=8)
    kept = miner.add("heartbeat is fine").template_id
    for n in range(200):
        miner.add("heartbeat is fine")
        miner.add("".join(chr(97 + (n // 26**k) % 26) for k in range(3)))
    assert miner.match("heartbeat is fine").template_id == kept
    assert miner.evicted >= 190


def test_a_batch_of_more_templates_than_there_is_room():
    words = ["".join(chr(97 + (n // 26**k) % 26) for k in range(3)) for n in range(300)]
    miner = TemplateMiner(max_templates=20).fit(words)
    assert miner.lines == 300
    assert len(miner) <= 20


def test_ids_lead_to_the_template_that_took_them_in():
    miner = TemplateMiner()
    ids = [miner.add(f"logged in as user {user}").template_id for user in USERS]
    assert ids == [1, 2, 1, 1, 1, 1]
    assert [miner.resolve(n) for n in (1, 2, 99)] == [1, 1, 99]
    assert miner.add("something else").template_id == 4


def test_fit_does_not_depend_on_the_order():
    lines = [f"session {n} opened for user {u} on host h{n}" for n in range(20) for u in USERS]
    lines += [f"{u} gave up" for u in USERS] + ["job 1 2 3 done", "job 1 done"]
    expected = texts(lines)
    for seed in range(5):
        random.Random(seed).shuffle(lines)
        assert texts(lines) == expected


def test_match_learns_nothing():
    miner = TemplateMiner().fit(["a 1"])
    assert miner.match("b 1") is None
    assert miner.match("a 2").values == ("2",)
    assert (miner.lines, len(miner)) == (1, 1)


def test_merge_says_which_id_became_which():
    one = TemplateMiner().fit([f"user {u} in" for u in USERS[:2]] + ["job 1 ok"])
    two = TemplateMiner().fit([f"user {u} in" for u in USERS[2:4]] + ["job 2 ok"] * 3)
    moved = one.merge(two)
    rows = {row.text: (row.id, row.count) for row in one.templates()}
    assert rows == {"user <*> in": (1, 4), "job <*> ok": (3, 4)}
    assert moved == {1: 1, 2: 1, 3: 3}
    assert two.lines == 5
    assert one.lines == 8
    assert one.match("user tim in").template_id == 1


def test_merge_of_different_fixed_words():
    one = TemplateMiner().fit(["ssh2 is up"])
    assert one.merge(TemplateMiner().fit(["ssh3 is up"])) == {1: 1}
    (row,) = one.templates()
    assert (row.text, row.count, row.slots[0].examples) == ("ssh<*> is up", 2, ("2", "3"))
    assert one.merge(TemplateMiner(max_templates=2)) == {}


def test_shards_together_know_what_one_miner_knows():
    lines = [f"session {n} opened for user {u} on host h{n}" for n in range(9) for u in USERS]
    lines += [f"cut dn1 {'dn2 ' * n}off" for n in range(4)] + [
        f"tok{n} ssh{n % 2} up" for n in range(9)
    ]
    random.Random(4).shuffle(lines)
    shards = [TemplateMiner().fit(lines[n::3]) for n in range(3)]
    whole = shards[0]
    for shard in shards[1:]:
        whole.merge(pickle.loads(pickle.dumps(shard)))
    assert {row.text: row.count for row in whole.templates()} == texts(lines)
    for line in lines:
        assert whole.match(line).render() == line


def test_what_waited_to_be_settled_waits_on_after_loading():
    miner = TemplateMiner()
    for word in ("aa", "bb", "cc", "dd"):
        miner.add(f"k{word} v{word} is x{word} for y{word} there")
    again = pickle.loads(pickle.dumps(miner))
    assert [row.text for row in again.templates()] == [row.text for row in miner.templates()]


def test_merge_of_aliases():
    two = TemplateMiner()
    for user in USERS:
        two.add(f"logged in as user {user}")
    assert TemplateMiner().merge(two) == {1: 1, 2: 1, 3: 1}
    two._index.aliases[77] = 78  # of a template that was forgotten
    assert 77 not in TemplateMiner().merge(two)


def test_dump_and_load():
    header = "2026-11-25 03:00:00 INFO "
    lines = [f"{header}session {n} of user {u}" for n, u in enumerate(USERS)] + [
        header + "b 1 2 3 end"
    ]
    miner = TemplateMiner(max_templates=77).fit([*lines, header + "b 1 end"])
    again = TemplateMiner.load(miner.dump())
    assert again.templates() == miner.templates()
    assert again.header == miner.header
    assert again.dump() == miner.dump()
    for line in lines:
        assert again.match(line).values == miner.match(line).values
        assert again.add(line).template_id == miner.add(line).template_id
    assert TemplateMiner.load(TemplateMiner(header=None).dump()).header is None


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"kind": "x"},
        {"templates": [{}]},
        {"templates": 5},
        {"aliases": [[1]]},
        {"options": None},
        {"next_id": "x"},
    ],
)
def test_load_refuses_what_dump_did_not_give(change):
    state = json.loads(TemplateMiner().fit(["a 1"]).dump())
    with pytest.raises(InvalidArgument, match="text"):
        TemplateMiner.load(json.dumps(state | change))


@pytest.mark.parametrize("text", ["", "[]", "5", "{}", "[" * 100_000])
def test_load_refuses_other_json(text):
    with pytest.raises(InvalidArgument, match="text"):
        TemplateMiner.load(text)


@pytest.mark.parametrize(
    "change", [{"row": ["a"]}, {"samples": [["1", "2"]]}, {"tokens": ["", "x"]}]
)
def test_load_refuses_templates_that_contradict_themselves(change):
    state = json.loads(TemplateMiner().fit(["a 1"]).dump())
    state["templates"][0] |= change
    with pytest.raises(InvalidArgument, match="text"):
        TemplateMiner.load(json.dumps(state))


@pytest.mark.parametrize("name", ["max_templates", "max_tokens", "max_chars", "max_patterns"])
def test_bounds_are_checked(name):
    for value in (0, -1, 1.5, True, "9"):
        with pytest.raises(InvalidArgument, match=name):
            TemplateMiner(**{name: value})


def test_header_is_checked():
    with pytest.raises(InvalidArgument, match="header"):
        TemplateMiner(header="syslog")


def test_explanations():
    miner = TemplateMiner().fit(
        [f"user {u} has {n} mails" for n, u in enumerate(USERS)] + ["link is up", "link is down"]
    )
    said = str(miner.explain("user ada has 1 mails", "user tim has 2 mails"))
    assert said == (
        "together, as 'user <*> has <*> mails'\n"
        "ada | tim: a value: 6 different words, and 3 are enough\n"
        "1 | 2: values by their looks"
    )
    apart = miner.explain("link is up", "link is down")
    assert not apart.together
    assert apart.differences[0].why == "too few different words to be values"
    unknown = miner.explain("never seen", "never seen before")
    assert unknown.texts == ("", "")
    assert unknown.differences[0].why == "2 tokens and 3: no columns to compare"
    could = miner.explain("port 7 free today", "port any free today")
    assert could.differences[0].why == "could be a value: numbers there in other lines"


def test_explanation_of_a_template_that_was_general_from_the_start():
    miner = TemplateMiner()
    for user in USERS:
        miner.add(f"user {user} in")
    miner._index.entries[1].reasons.clear()
    (difference,) = miner.explain("user ada in", "user tim in").differences
    assert difference.why == "a value in this template"
    lines = ["at (10.0.0.1) 5", "at () 5"]
    (difference,) = TemplateMiner().fit(lines).explain(*lines).differences
    assert difference.why == "a value: only numbers and the like there"


def test_table():
    table = templates.table([f"a {n}" for n in range(8)] + ["b"] * 2 + ["c" * 300], limit=2)
    assert [row.count for row in table.rows] == [8, 2]
    assert str(table).splitlines()[-1] == "and 1 more"
    assert (table.total, table.lines, table.evicted) == (3, 11, 0)
    assert "c..." in str(templates.table(["c" * 300]))
    assert templates.table([]).rows == ()
    assert logs.TemplateMiner is TemplateMiner


HEADERS = {
    "syslog": "Jul 15 01:03:{n:02} combo sshd(pam_unix)[{n}]: ",
    "log4j": "2015-10-18 18:01:{n:02},978 INFO [IPC Server handler {n} on 62270] org.a.b.Server: ",
    "zookeeper": "2015-07-29 17:41:{n:02},747 - WARN  [Quorum[myid=1]/0:0:0:2181:Fast@774] - ",
    "logcat": "03-17 16:13:{n:02}.811  1702  2395 D PowerManager: ",
    "hdfs": "081109 2036{n:02} 14{n} INFO dfs.DataNode$PacketResponder: ",
    "bgl": "- 11178385{n:02} 2005.06.03 R0{n}-M1 2005-06-03-15.42.{n:02}.3 R0{n}-M1 RAS KERNEL INFO ",
    "piped": "20171223-22:15:{n:02}:606|Step_LSC|300{n}|",
    "apache": "[Sun Dec 04 04:47:{n:02} 2005] [notice] ",
    "proxifier": "[10.30 16:49:{n:02}] chrome{n}.exe - ",
    "cbs": "2016-09-28 04:30:{n:02}, Info                  CBS    ",
    "openstack": "nova-api.log.1.2017-05-16_13:53:08 2017-05-16 00:00:00.{n:03} 25746 INFO nova.api"
    " [req-{n} - - -] ",
    "epoch": "134681 node-{n} unix.hw state_change.{n} 10778047{n:02} 1 ",
}


def messages():
    for n in range(10, 50):
        yield from (
            f"session {n} of {n} x opened",
            f"[instance: {n}] lost",
            f"gave up after {n} tries",
        )


@pytest.mark.parametrize("name", HEADERS)
def test_headers_are_found(name):
    lines = [HEADERS[name].format(n=i % 60) + m for i, m in enumerate(messages())]
    header = detect_header(lines)
    assert header is not None
    assert [header.split(line)[1] for line in lines] == list(messages())
    assert all(
        "".join(header.split(line)).replace(" ", "") == line.replace(" ", "") for line in lines
    )
    miner = TemplateMiner().fit(lines)
    assert miner.header == header
    assert {row.text for row in miner.templates()} == set(texts(messages(), header=None))
    match = miner.add(lines[0])
    assert match.head == header.split(lines[0])[0]
    assert miner.match(lines[0]).head == match.head


def test_lines_without_the_header_are_messages():
    lines = [HEADERS["syslog"].format(n=n) + "up" for n in range(10, 50)]
    header = detect_header(lines)
    for line in ("up", "goes on here with more of it", "", "x y zz: a"):
        assert header.split(line) == ("", line)
    # No name and colon behind the columns, or one too far away: the message begins there.
    assert header.split("Jul 15 01:03:07 combo up") == ("Jul 15 01:03:07", "combo up")
    assert header.split("Jul 15 01:03:07 a b c d e: up")[1] == "a b c d e: up"
    assert header.split("Jul 15 01:03:07 combo x[1]:") == ("Jul 15 01:03:07 combo x[1]:", "")
    piped = Header(0, "", 2, 0)
    assert piped.split("a|b|c|d") == ("a|b|", "c|d")
    assert piped.split("a|b") == ("", "a|b")


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["", " "],
        ["no header here", "none here"],
        [f"read {n} bytes, rc=0, took 0.{n} ms" for n in range(50)],
        [f"{n} ok" for n in range(50)],
        ["a|b|c|d"] * 5,
        ["2026-11-25 03:00:00 INFO"] * 9,
        ["2026-11-25 03:00:00 INFO up"] * 4,
        ["a", "b c d e f g"] * 9,
        [" ".join("abcdefghijklmnop"[n % 9 :] * 3) for n in range(90)],
    ],
)
def test_what_has_no_header(lines):
    assert detect_header(lines) is None


def test_header_is_looked_for_once():
    miner = TemplateMiner()
    miner.add("first")
    assert miner.header is None
    lines = [HEADERS["syslog"].format(n=n) + "up" for n in range(10, 50)]
    assert miner.fit(lines).header is None
    assert TemplateMiner(header=None).fit(lines).header is None


def test_a_header_of_many_columns():
    lines = ["2026-11-25 03:00:00 " + "1 " * 20 + "up"] * 5
    assert detect_header(lines).split(lines[0])[1].endswith("up")


def test_a_bracket_that_never_closes_ends_somewhere():
    lines = ["2026-11-25 03:00:00 [main up and " + "away " * 90] * 5
    header = detect_header(lines)
    assert " ".join(header.split(lines[0])).split() == lines[0].split()
    assert header.split(lines[0])[1].endswith("up and " + "away " * 90)
    assert header.split("2026-11-25 [a") == ("", "2026-11-25 [a")


def test_patterns_are_looked_up_again_once_forgotten():
    miner = TemplateMiner(max_patterns=2).fit([f"user {user} in" for user in USERS])
    for user in ("tim", "tom", "ann", *USERS):
        assert miner.match(f"user {user} in").template_id == 1
        assert len(miner._index.known) <= 2


def test_ids_that_led_elsewhere_are_forgotten_too():
    miner = TemplateMiner(max_patterns=2)
    for verb in ("opened", "closed", "locked"):
        for user in USERS[:3]:
            miner.add(f"account {verb} by user {user}")
    assert len(miner._index.aliases) == 2


def test_open_templates_that_share_their_columns_go_one_by_one():
    miner = TemplateMiner(max_templates=4)
    for key in ("owner", "group"):
        for user in USERS:
            miner.add(f"set {key}={user} now")
    assert len(miner) == 2
    for word in ("alpha", "beta beta", "gamma gamma gamma", "delta of x y", "epsilon of v w x"):
        miner.add(word)
    assert miner.match("set owner=zoe now") is None


def test_edges():
    assert edges(["user=ada,", "user=tim,"]) == ("user=", ",")
    assert edges(["abc", "abd"]) == ("", "")
    assert edges(["(a)", "()"]) == ("(", ")")
    assert edges(["a=1", "a=1b=1"]) == ("a=", "")


def test_judging_a_column():
    row = ("what", "x", "happened", "there")
    assert judge([f"{LIST}a{HOLE}", "b"], row, 1) is None
    assert judge([TAIL, "b"], row, 1) is None
    assert judge([OPEN, "b"], row, 1) == "values were found there before"
    assert judge(["a", "b"], ("a",), 0) is None
    assert judge([chr(n) * 3 for n in range(97, 122)], ("aaa", "bb"), 0)
    assert judge([":" + HOLE, "abc"], row, 1) is None


def test_forms():
    form = first_form("a  1 b", ["a", "1", "b"], ("a", HOLE, "b"))
    assert form.render(["7"]) == "a  7 b"
    with pytest.raises(ValueError, match="1 values are needed, not 2"):
        form.render(["7", "8"])
    assert form.values(["a", "1"], ("a", HOLE)) is None
    lists = form.with_lists(("a", HOLE, "b"), ("a", LIST + HOLE, "b"))
    assert lists.values(["a", "1", "2", "b"], ("a", HOLE, HOLE, "b")) == ("1 2",)
    soft = Form(("x5",), (f"x{HOLE}",), ("",))
    assert soft.widened(["x6"], (f"x{HOLE}",)).tokens == (f"x{HOLE}",)
    assert soft.widened(["y"], ("y",)).tokens == (HOLE,)
