"""A parser small enough to be sure of, for tests of the engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

import attrs


@attrs.frozen
class Kind:
    name: str
    fields: Mapping[str, str] = attrs.Factory(dict)

    def try_parse(self, line: str) -> dict[str, object] | None:
        return {"text": line}

    def explain(self, line: str) -> object | None:
        return None


@attrs.frozen
class Refusal:
    line: Any
    number: int
    reason: str


@attrs.define
class Lot:
    records: list[dict[str, object]]
    formats: list[Kind]
    numbers: list[int]
    rejects: list[Refusal]


PAIR, WORD = Kind("pair", {"key": "str", "value": "int"}), Kind("word")


class TwoLineParser:
    """``key=3`` is a pair, letters alone are a word, all else is refused."""

    def parse_lines(self, lines: Any) -> Lot:
        lot = Lot([], [], [], [])
        for number, line in enumerate(lines):
            text = line if isinstance(line, str) else line.decode("utf-8", "replace")
            if text == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if text == "raise":
                raise ValueError("a parser that fails")
            key, _, value = text.partition("=")
            if value.isascii() and value.isdigit():
                record: dict[str, object] = {"key": key, "value": int(value)}
                kind = PAIR
            elif text.isalpha():
                record, kind = {"text": text}, WORD
            else:
                lot.rejects.append(Refusal(line, number, "no format"))
                continue
            lot.records.append(record)
            lot.formats.append(kind)
            lot.numbers.append(number)
        return lot
