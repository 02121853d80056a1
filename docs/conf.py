"""How the documentation is built: ``make docs``."""

import builtins
import re
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

from docutils import nodes
from numpy.typing import ArrayLike
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

import fedprune
from fedprune.common import spec

project = "FedPrune"
author = "The FedPrune contributors"
project_copyright = author
version = release = fedprune.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["deploy", "results", "api/modules.rst"]
html_theme = "alabaster"
html_theme_options = {"page_width": "1100px", "sidebar_width": "260px"}
html_title = f"FedPrune {version}"
html_show_sphinx = False
html_copy_source = False

# Links to headings, with the anchors that GitHub gives them.
myst_heading_anchors = 3

# Programs and TOML files: no interface.
_LEFT_OUT = ("benchmarks", "experiments")
_PACKAGE = Path(fedprune.__file__).parent
apidoc_modules = [
    {
        "path": str(_PACKAGE),
        "destination": "api",
        "exclude_patterns": [str(_PACKAGE / "simulations" / x) for x in _LEFT_OUT],
        "follow_links": True,
        "separate_modules": True,
        "module_first": True,
        "automodule_options": {"members"},
    }
]
_TABLES = {
    "fedprune.common.codec",
    "fedprune.common.codec.delta.format",
    "fedprune.common.codec.grid.format",
}
# Each thing once, on the page of the module that defines it.
autodoc_default_options = {"ignore-module-all": True, "exclude-members": "model_config"}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
# Fields stand under ``Attributes:`` and are listed by autodoc: once is enough.
napoleon_use_ivar = True
napoleon_attr_annotations = False

_ALIASES = {
    stringify_annotation(alias, "smart"): name
    for name, alias in {
        "ArrayLike": ArrayLike,
        "Vector": spec.Vector,
        "Indices": spec.Indices,
        "Mask": spec.Mask,
    }.items()
}

# autodoc writes into the annotations of pydantic's base class when it documents a
# model, and models that are made later (in what Flower imports) fail on that.
_PROGRAMS = ("__main__", *_LEFT_OUT)
for _found in walk_packages(fedprune.__path__, "fedprune."):
    if not any(part in _PROGRAMS for part in _found.name.split(".")):
        import_module(_found.name)


def read_page(_app: Sphinx, name: str, source: list[str]) -> None:
    """Fit a page of the repository into the site.

    Links to files outside docs/ become their text, and the pages of a folder follow
    its README in the table of contents.
    """
    outside = re.escape("../" * (name.count("/") + 1))
    source[0] = re.sub(rf"\[([^]]+)\]\({outside}[^)]+\)", r"\1", source[0])
    if name.endswith("/README"):
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"


def find_builtins(_app: Sphinx, tree: nodes.document) -> None:
    """Keep types such as ``bytes`` from being taken for a field of that name."""
    for link in tree.findall(addnodes.pending_xref):
        if hasattr(builtins, link.get("reftarget", "")):
            link["refspecific"] = False


def keep_tables(
    _app: Sphinx, what: str, name: str, _: object, _options: object, lines: list[str]
) -> None:
    """Show the pages of the wire format as they stand: they are tables of bytes."""
    if what == "module" and name in _TABLES:
        lines[1:] = ["", "::", "", *(f"    {line}" for line in lines[1:])]


def name_aliases(
    _app: Sphinx, _what: str, _name: str, *rest: object
) -> tuple[str | None, str | None]:
    """Give the arrays of a signature the names that the code gives them."""
    *_, arguments, returned = rest
    for long, short in _ALIASES.items():
        arguments = str(arguments).replace(long, short) if arguments else None
        returned = str(returned).replace(long, short) if returned else None
    return arguments, returned


def setup(app: Sphinx) -> None:
    """Connect the steps above."""
    app.connect("autodoc-process-signature", name_aliases)
    app.connect("autodoc-process-docstring", keep_tables)
    app.connect("source-read", read_page)
    app.connect("doctree-read", find_builtins)
