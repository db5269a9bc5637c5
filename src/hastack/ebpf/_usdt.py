"""USDT probes of a file: where they are and which counter switches them on.

Source: the layout of ``.note.stapsdt`` (SystemTap's ``sys/sdt.h``, version 3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hastack._core._errors import MalformedObject

from . import _elf

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Probe", "find")

_TYPE = 3


class Probe(NamedTuple):
    """One place of a USDT probe.

    Args:
        offset: Where the instruction is in the file.
        semaphore: Where its counter is in the file; 0 when it has none.
        arguments: How its arguments are passed, as the compiler wrote it.
    """

    offset: int
    semaphore: int
    arguments: str


def find(content: bytes | memoryview, provider: str, name: str) -> list[Probe]:
    """All places of a probe, in the order of the file.

    Raises:
        MalformedObject: The file is no ELF file, or its notes are broken.
    """
    elf = _elf.parse(content, bpf=False)
    section = elf.section(".note.stapsdt")
    if section is None:
        return []
    base = elf.section(".stapsdt.base")
    # Prelinking moves addresses; how far shows where the base has gone.
    found = []
    for described in _notes(section.data, elf.order):
        if len(described) < 24:
            raise MalformedObject("cut off", where=section.name)
        place, link_base, counter = _elf.structure(elf.order, "QQQ").unpack_from(described)
        texts = bytes(described[24:]).split(b"\0")
        if len(texts) < 3:
            raise MalformedObject("a probe without names", where=section.name)
        if (texts[0].decode("utf-8", "replace"), texts[1].decode("utf-8", "replace")) != (
            provider,
            name,
        ):
            continue
        moved = base.address - link_base if base is not None else 0
        at = _offset(elf, place + moved, section.name)
        semaphore = _offset(elf, counter + moved, section.name) if counter else 0
        found.append(Probe(at, semaphore, texts[2].decode("utf-8", "replace")))
    return found


def _notes(data: memoryview, order: _elf.Order) -> Iterator[memoryview]:
    head = _elf.structure(order, "III")
    at = 0
    while at + head.size <= len(data):
        name, size, kind = head.unpack_from(data, at)
        start = at + head.size + (name + 3) // 4 * 4
        if start + size > len(data):
            raise MalformedObject("cut off", where=".note.stapsdt")
        if kind == _TYPE:
            yield data[start : start + size]
        at = start + (size + 3) // 4 * 4


def _offset(elf: _elf.Elf, address: int, where: str) -> int:
    for segment in elf.segments:
        inside = segment.address <= address < segment.address + segment.file_size
        if segment.type == _elf.PT_LOAD and inside:
            return address - segment.address + segment.offset
    raise MalformedObject(f"an address ({address:#x}) that is in no segment", where=where)
