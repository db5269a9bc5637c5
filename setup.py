"""Builds hastack; all metadata is in pyproject.toml.

``HASTACK_COMPILE=1 pip install .`` compiles the pure decision modules with mypyc, and the C extension
for ring buffers. Without it, and
on a machine without a C compiler, the same sources are installed as they are.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).resolve().parent
sys.path.append(str(ROOT / "scripts"))  # last: nothing there hides what the build needs


def extensions() -> list[Extension]:
    """The compiled twins of the decision modules; a failing compiler leaves them out."""
    from mypyc.build import mypycify
    from pure import modules, source_file

    # Types are `make types`'s business: the isolated build has none of the packages that the
    # neighbours of these modules import.
    mypy = ["--config-file=", "--follow-imports=silent", "--ignore-missing-imports"]
    built = mypycify(
        [*mypy, *map(source_file, modules("COMPILED_MODULES"))],
        opt_level="3",
        debug_level="0",
        group_name="hastack",  # of the extension that holds them all: hastack__mypyc
    )
    from ring_native import builder

    built.append(builder().distutils_extension())
    for extension in built:
        extension.optional = True
    return built


if os.environ.get("HASTACK_COMPILE", "0") == "0":
    setup()
elif {"egg_info", "dist_info", "sdist"} & set(sys.argv):
    # pip asks what the build needs before mypyc is there.
    setup(setup_requires=["mypy[mypyc]>=2.4", "cffi>=1.16"])
else:
    setup(ext_modules=extensions())
