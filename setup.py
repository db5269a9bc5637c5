"""Builds hastack; all metadata is in pyproject.toml.

``HASTACK_COMPILE=1 pip install .`` compiles the pure decision modules with mypyc, and the C extension
for ring buffers. Without it, and
on a machine without a C compiler, the same sources are installed as they are.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.append(str(ROOT / "scripts"))  # last: nothing there hides what the build needs


class BuildPy(build_py):
    """Puts the example that ``hastack demo scenario`` runs beside the command."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if self.editable_mode:  # there the command finds it among the examples
            return
        place = Path(self.build_lib, "hastack", "cli", "demo", "whole_service")
        place.mkdir(parents=True, exist_ok=True)
        for each in (ROOT / "examples" / "11-whole-service").iterdir():
            if each.suffix in {".py", ".toml", ".wat", ".md"} and "test_" not in each.name:
                shutil.copy2(each, place)


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
    setup(cmdclass={"build_py": BuildPy})
elif {"egg_info", "dist_info", "sdist"} & set(sys.argv):
    # pip asks what the build needs before mypyc is there.
    setup(setup_requires=["mypy[mypyc]>=2.4", "cffi>=1.16"], cmdclass={"build_py": BuildPy})
else:
    setup(ext_modules=extensions(), cmdclass={"build_py": BuildPy})
