"""Sphinx configuration: `make docs` builds with every warning as an error."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

project = "hastack"
copyright = "the hastack authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "hastack"
html_static_path: list[str] = []

# Docstrings name things in `single backticks`: a link where the name is known, code elsewhere.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
autoclass_content = "class"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Builds ask no network, so there is no inventory for what is not ours: only hastack's own public
# names must resolve. Private modules and type variables have no page.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!hastack\b).*"),
    (r"py:.*", r"hastack\.(.*\.)?(_\w+(\..*)?|[A-Z]|[A-Z]\w*T)"),
]

# A package shows names of its modules as its own, `Store` for example: of several pages with one
# name the first will do.
suppress_warnings = ["ref.python"]
