"""A secret is nowhere to be read but through reveal()."""

import copy
import json
import pickle
import traceback

import attrs
import pytest

from hastack import config
from hastack._config._describe import plain
from hastack.errors import ConfigError, InvalidArgument

WORD = "hunter2-s3cr3t"


def _no_word(instance, attribute, value):
    raise ValueError(f"{value.reveal()} is too short, {value}")


@attrs.frozen(kw_only=True)
class Login:
    user: str = "ada"
    password: config.Secret
    token: config.Secret | None = None


@attrs.frozen(kw_only=True)
class Judged:
    password: config.Secret = attrs.field(validator=_no_word)


def test_it_shows_nothing():
    secret = config.Secret(WORD)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>10}", format(secret), repr([secret]),
             repr(Login(password=secret)), str({"k": secret}), json.dumps(plain(Login(password=secret)))]  # fmt: skip
    assert not any(WORD in text for text in shown)
    assert f"{secret:>5}" == "  ***"
    assert secret.reveal() == WORD
    assert not hasattr(secret, "__dict__")


def test_what_carries_it_shows_nothing():
    found = config.Snapshot({"password": WORD}, {("password",): "store"})
    watched = config.watch(into=Login, env={"L_PASSWORD": WORD}, env_prefix="L_")
    shown = [repr(found), repr(watched), repr(watched._recipe), repr(watched._recipe.attempt())]
    assert not any(WORD in text for text in shown)


def test_it_compares_and_hashes():
    assert config.Secret("a") == config.Secret("a")
    assert config.Secret("a") != config.Secret("b")
    assert config.Secret("é\ud800") == config.Secret("é\ud800")
    assert config.Secret("a") != "a"
    assert len({config.Secret("a"), config.Secret("a"), config.Secret("b")}) == 2
    assert config.Secret("a")
    assert not config.Secret("")


def test_it_does_not_change_and_is_not_pickled():
    secret = config.Secret(WORD)
    with pytest.raises(AttributeError):
        secret._text = "x"
    with pytest.raises(AttributeError):
        del secret._text
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(secret, protocol)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


def test_only_text():
    with pytest.raises(InvalidArgument) as caught:
        config.Secret(12345678)
    assert "12345678" not in str(caught.value)


def everything_in(error):
    texts = [str(error), repr(error), "".join(traceback.format_exception(error))]
    texts += [str(vars(each)) for each in error.exceptions]
    return "\n".join(texts) + pickle.dumps(error).decode("latin-1")


@pytest.mark.parametrize(
    ("into", "given"),
    [
        (Login, {"passwrod": WORD}),
        (Login, {"password": {WORD: WORD} and [WORD]}),
        (Login, {"password": WORD, "unknown": WORD}),
        (Login, {"password": WORD, "password_file": WORD and "/nowhere"}),
        (Judged, {"password": WORD}),
    ],
)
def test_no_mistake_shows_it(into, given):
    with pytest.raises(ConfigError) as caught:
        config.load(into=into, env=None, override=given)
    assert WORD not in everything_in(caught.value)


def test_a_validator_that_tells_is_masked():
    with pytest.raises(ConfigError) as caught:
        config.load(into=Judged, env=None, override={"password": WORD})
    assert caught.value.exceptions[0].problem == "*** is too short, ***"


def test_from_a_file(tmp_path):
    file = tmp_path / "password"
    file.write_text(WORD + "\n")
    loaded = config.load(into=Login, env={"L_PASSWORD_FILE": str(file)}, env_prefix="L_")
    assert loaded.password.reveal() == WORD
    file.write_bytes(f"{WORD}\n\r\n".encode())
    loaded = config.load(into=Login, env=None, override={"password_file": str(file)})
    assert loaded.password.reveal() == WORD + "\n"  # one line end, no more


def test_the_higher_layer_wins_between_the_two(tmp_path):
    file = tmp_path / "password"
    file.write_text("from file")
    low = tmp_path / "low.toml"
    low.write_text(f'password_file = "{file}"\n')
    load = lambda **kw: config.load(low, into=Login, env_prefix="L_", **kw).password.reveal()
    assert load(env={}) == "from file"
    assert load(env={"L_PASSWORD": "direct"}) == "direct"
    low.write_text('password = "direct"\n')
    assert load(env={"L_PASSWORD_FILE": str(file)}) == "from file"
    found = {s.path: s.source for s in config.explain(low, into=Login, env={"L_PASSWORD_FILE": str(file)}, env_prefix="L_")}  # fmt: skip
    assert found["password"] == "L_PASSWORD_FILE"


def test_both_in_one_layer_is_a_mistake(tmp_path):
    given = {"password": WORD, "password_file": str(tmp_path)}
    with pytest.raises(ConfigError) as caught:
        config.load(into=Login, env=None, override=given)
    assert "given twice: also as password_file" in str(caught.value)


@attrs.frozen(kw_only=True)
class Logins:
    all: tuple[Login, ...] = ()
    one: Login | None = None
    key: str = "default"
    key_file: str = "default"


@attrs.frozen(kw_only=True)
class OwnFile:
    password: config.Secret = config.Secret("x")  # noqa: RUF009  # immutable
    password_file: int = 5


def test_a_class_may_use_the_name_of_the_file_itself():
    loaded = config.load(into=OwnFile, env=None, override={"password_file": 6})
    assert (loaded.password.reveal(), loaded.password_file) == ("x", 6)
    assert config.schema(OwnFile)["properties"]["password_file"]["type"] == "integer"


def test_both_inside_of_a_list():
    both = {"password": WORD, "password_file": "/nowhere"}
    with pytest.raises(ConfigError) as caught:
        config.load(into=Logins, env=None, override={"all": [both]})
    assert [m.path for m in caught.value.exceptions] == ["all[0].password"]
    assert WORD not in everything_in(caught.value)


def test_only_secrets_come_from_files():
    found = config.explain(into=Logins, env=None, override={"key_file": "x"})
    assert {s.path: (s.value, s.source) for s in found if s.path != "all"} == {
        "one": (None, "default"),
        "key": ("default", "default"),
        "key_file": ("x", "override"),
    }


def test_bad_files(tmp_path):
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff" + WORD.encode())
    for path, problem in [
        (tmp_path / "missing", "No such file"),
        (tmp_path, "not a regular file"),
        (binary, "is not UTF-8 text"),
    ]:
        with pytest.raises(ConfigError) as caught:
            config.load(into=Login, env=None, override={"password_file": str(path)})
        assert [m.path for m in caught.value.exceptions] == ["password_file"]
        assert problem in str(caught.value)
        assert WORD not in everything_in(caught.value)
    with pytest.raises(ConfigError) as caught:
        config.load(into=Login, env=None, override={"password_file": 5})
    assert [m.path for m in caught.value.exceptions] == ["password_file"]


def test_an_optional_one_may_be_missing():
    loaded = config.load(into=Login, env=None, override={"password": "x", "token": None})
    assert loaded.token is None
    loaded = config.load(into=Login, env=None, override={"password": "none"})
    assert loaded.password.reveal() == "none"


def test_a_secret_that_is_one_already():
    secret = config.Secret("x")
    assert config.load(into=Login, env=None, override={"password": secret}).password is secret


def test_the_schema_hides_it():
    found = config.schema(Login)
    assert found["properties"]["password"]["writeOnly"] is True
    assert found["allOf"] == [
        {"anyOf": [{"required": ["password"]}, {"required": ["password_file"]}]}
    ]
