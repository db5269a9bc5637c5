"""Limits, sizes and signatures as people write them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastack.errors import InvalidArgument
from hastack.wasm import Limits, Unsigned
from hastack.wasm._abi import Adapted, adapt
from hastack.wasm._host import HostFunction
from hastack.wasm._reader import Export, Facts
from hastack.wasm._signatures import bind, number, parse, raw_layout
from hastack.wasm._sizes import size


@pytest.mark.parametrize(
    ("given_", "bytes_"),
    [(5, 5), ("5", 5), ("1kb", 1000), ("2 KiB", 2048), ("1GiB", 1 << 30), (" 3b ", 3)],
)
def test_sizes(given_: object, bytes_: int) -> None:
    assert size("memory", given_) == bytes_


@pytest.mark.parametrize("wrong", ["", "1tb", "-1", 0, -1, True, 1.5, None, "0", "1e3"])
def test_what_is_no_size(wrong: object) -> None:
    with pytest.raises(InvalidArgument, match="memory"):
        size("memory", wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadline": 0}, {"deadline": -1.0}, {"fuel": 0}, {"stack": "1KiB"}, {"stack": "1GiB"},
        {"memory": "5GiB"}, {"memories": -1}, {"functions": 1.5}, {"compile_seconds": "x"},
    ],
)  # fmt: skip
def test_limits_outside_of_their_range(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        Limits(**wrong)


def test_small_fuel_is_exact() -> None:
    assert Limits(fuel=1000).exact_fuel
    assert not Limits().exact_fuel


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("()", ((), ())),
        ("(i32, bytes) -> i64", (("i32", "bytes"), ("i64",))),
        (" (str)->(i32, i32)", (("str",), ("i32", "i32"))),
        ("() -> ()", ((), ())),
    ],
)
def test_signatures_are_read(text: str, kinds: object) -> None:
    assert parse(text) == kinds


@pytest.mark.parametrize(
    "wrong", ["", "i32", "(int)", "(i32", None, 5, "(i32,,i32)", "() -> [i32]"]
)
def test_what_is_no_signature(wrong: object) -> None:
    with pytest.raises(InvalidArgument, match="signature"):
        parse(wrong)


def test_declared_and_core_types_must_fit() -> None:
    core = "(i32, i32, i64) -> i64"
    assert bind("f", None, core).plain
    assert str(bind("f", "(str, i64) -> bytes", core)) == "(str, i64) -> bytes"
    assert not bind("f", "(bytes, i64) -> i64", core).plain
    assert bind("f", "(cbytes, cstr, i64) -> i64", core).core_parameters == ("i32", "i32", "i64")
    assert str(bind("f", None, "() -> (i32, i64)")) == "() -> (i32, i64)"
    assert bind("f", "() -> str", "() -> (i32, i32)").core_results == ("i32", "i32")
    for wrong in ("(str) -> i64", "(str, i64)", "(str, i64) -> (str, str)", "(str, i64) -> cstr"):
        with pytest.raises(InvalidArgument, match="fits"):
            bind("f", wrong, core)
    with pytest.raises(InvalidArgument, match="i32, i64, f32 and f64 only"):
        bind("f", None, "(v128) -> i32")


def test_numbers_must_fit_their_type() -> None:
    assert number("f", 0, "i32", 2**32 - 1) == -1
    assert number("f", 0, "i32", -(2**31)) == -(2**31)
    assert number("f", 0, "i64", 2**63) == -(2**63)
    assert number("f", 0, "i32", True) == 1
    assert number("f", 0, "f64", 1) == 1.0
    for kind, wrong in [
        ("i32", 2**32), ("i32", 1.0), ("i32", "1"), ("i64", 2**64), ("f32", 1e300), ("f64", True),
        ("f64", "x"), ("f64", 10**400), ("i32", -(2**31) - 1), ("i32", None),
    ]:  # fmt: skip
        with pytest.raises(InvalidArgument, match=r"f\(\) argument 2"):
            number("f", 1, kind, wrong)


@given(st.integers(-(2**31), 2**31 - 1), st.floats(width=32, allow_nan=False))
def test_slots_hold_what_is_put_in(whole: int, real: float) -> None:
    layout = raw_layout(("i32", "f64", "i64", "f32"))
    assert layout.size == 64
    raw = layout.pack(whole, real, whole, real)
    assert layout.unpack(raw) == (whole, real, whole, real)
    assert struct.unpack_from("<i", raw, 0) == struct.unpack_from("<q", raw, 32) == (whole,)


def facts(*exports: Export) -> Facts:
    return Facts(
        size=0, imports=(), exports=exports, start=False, counts={}, memories=(), tables=(),
        customs=(),
    )  # fmt: skip


def test_an_http_policy_is_told_by_its_export() -> None:
    policy = Export("on_http_request", "func", "(i32, i32, i32) -> i32")
    adapted = adapt(facts(policy), {}, {"other": "()"})
    assert adapted.name == "http"
    assert adapted.functions == {"on_http_request": "(cbytes, bytes) -> i32", "other": "()"}
    assert adapt(facts(Export("on_http_request", "func", "() -> ()")), {}, {}).name == "plain"
    assert adapt(facts(), {}, {}).name == "plain"


def test_what_the_user_grants_wins() -> None:
    mine = HostFunction(print)
    adapted = adapt(facts(), {"env": {"log": mine}}, {})
    assert adapted.grants == {"env": {"log": mine}}


def test_running_what_nobody_signed_has_a_word() -> None:
    assert repr(Unsigned()) == "Unsigned()"


def test_two_abis_in_one_instance_keep_their_states_apart() -> None:
    class One:
        a = 1

    class Two:
        b = 2

    both = Adapted(name="x", state=One).beside(Adapted(name="y", grants={"y": {}}, state=Two))
    assert both.grants == {"y": {}}
    state = both.state()
    state.b = 5
    state.a = 4
    assert (state.a, state.b) == (4, 5)
    with pytest.raises(AttributeError):
        print(state.c)
    alone = Adapted(name="x").beside(Adapted(name="y", state=Two)).state()
    assert alone.b == 2


def test_a_plugin_in_the_configuration_is_signed_or_said_to_be_unsigned() -> None:
    from hastack import config
    from hastack.errors import ConfigError
    from hastack.wasm._settings import WASM

    def load(**entry: object):
        return config.load(env=None, override={"wasm": {"plugins": {"p": {"path": "x", **entry}}}})

    for wrong in ({}, {"unsigned": True, "signers": {"ada": "ada.pem"}}):
        with pytest.raises(ConfigError, match="1 mistake") as caught:
            load(**wrong)
        assert "either signers or unsigned" in str(caught.value.exceptions[0])
    assert WASM.of(load(unsigned=True)).plugins["p"].unsigned
    assert WASM.of(load(signers={"ada": "a.pem"})).plugins["p"].signers["ada"].name == "a.pem"
