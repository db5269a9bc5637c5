"""Where the arguments of USDT probes are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastack.ebpf._usdt_arguments import CONSTANT, INDEXED, MEMORY, REGISTER, Argument, parse
from hastack.errors import Unsupported

TOP = 1 << 64


def test_arguments_on_x86_64():
    text = "-4@%edi 8@%r11 -2@-1204(%rbp) 1@(%rsp) -4@$-9 8@$0x10 2@%cl 4@%r9d 1@%sil"
    assert parse(text, "x86_64") == (
        Argument(REGISTER, 4, True, register=112),
        Argument(REGISTER, 8, False, register=48),
        Argument(MEMORY, 2, True, TOP - 1204, 32),
        Argument(MEMORY, 1, False, 0, 152),
        Argument(CONSTANT, 4, True, TOP - 9),
        Argument(CONSTANT, 8, False, 16),
        Argument(REGISTER, 2, False, register=88),
        Argument(REGISTER, 4, False, register=64),
        Argument(REGISTER, 1, False, register=104),
    )
    assert parse("8@-8(%rdx,%rax,8) 4@(%rdx,%rcx)", "x86_64") == (
        Argument(INDEXED, 8, False, TOP - 8, 96, 80, 3),
        Argument(INDEXED, 4, False, 0, 96, 88, 0),
    )


def test_arguments_on_arm64():
    assert parse("-4@w0 8@x30 -2@[sp, 28] 1@[x3] 8@[x2, #-16] -4@5", "aarch64") == (
        Argument(REGISTER, 4, True, register=0),
        Argument(REGISTER, 8, False, register=240),
        Argument(MEMORY, 2, True, 28, 248),
        Argument(MEMORY, 1, False, 0, 24),
        Argument(MEMORY, 8, False, TOP - 16, 16),
        Argument(CONSTANT, 4, True, 5),
    )


def test_no_arguments_are_none():
    assert parse("", "x86_64") == parse("  ", "aarch64") == ()


@pytest.mark.parametrize(
    ("text", "machine", "match"),
    [
        ("-4@%edi 8f@%xmm0", "x86_64", r"argument 2 of the probe \(8f@%xmm0\)"),
        ("8@%xmm0", "x86_64", "argument 1"),
        ("3@%rax", "x86_64", "argument 1"),
        ("8@counter(%rip)", "x86_64", "argument 1"),
        ("8@8(%nothing)", "x86_64", "argument 1"),
        ("8@8(%rax,%nothing,2)", "x86_64", "argument 1"),
        ("8@$x", "x86_64", "argument 1"),
        ("%rdi", "x86_64", r"argument 1 of the probe \(%rdi\)"),
        ("8@[x1, x2]", "aarch64", "argument 1"),
        ("8@[q1]", "aarch64", "argument 1"),
        ("8@d0", "aarch64", "argument 1"),
        ("8@%rdi", "riscv64", "riscv64 is not known"),
        (" ".join(["8@%rdi"] * 13), "x86_64", "13 arguments"),
    ],
)
def test_places_that_no_program_can_read(text, machine, match):
    with pytest.raises(Unsupported, match=match):
        parse(text, machine)


def test_members_of_an_entry():
    assert Argument(MEMORY, 2, True, 28, 248).fields() == {
        "arg_type": 2,
        "val_off": 28,
        "reg_off": 248,
        "arg_signed": True,
        "arg_bitshift": 48,
    }
    indexed = Argument(INDEXED, 8, False, 0, 96, 80, 3).fields()
    assert (indexed["idx_reg_off"], indexed["scale_bitshift"]) == (80, 3)


@given(st.text(alphabet="-+0123456789@%$()[],#x rabcdsipwf", max_size=40))
def test_any_text_is_read_or_refused(text):
    for machine in ("x86_64", "aarch64"):
        try:
            found = parse(text, machine)
        except Unsupported:
            continue
        for each in found:
            assert 0 <= each.value < TOP
            assert 0 <= each.fields()["arg_bitshift"] < 64
