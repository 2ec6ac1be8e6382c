"""The site of ``docs/``: ``make docs`` writes it to ``docs/_build/html``. It needs no network."""

import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
shutil.rmtree(HERE / "api", ignore_errors=True)  # pages of modules that are gone would stay

project = "rllib_lpdm"
author = "The rllib_lpdm developers"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = "rllib_lpdm"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the notebook carries its outputs; a test executes it

# The docstrings of the package alone: what is inherited from Ray is documented by Ray.
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_use_type_comments = False  # there are none
autosummary_generate = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Names of other projects have no page here: the site is built without a network.
nitpick_ignore = [  # type variables, and a validator within an annotation
    ("py:class", "rllib_lpdm.algorithms.ray_internals.Result"),
    ("py:class", "rllib_lpdm.schema.registry.Entry"),
    ("py:class", "rllib_lpdm.schema.registry.Registry.known"),
]
nitpick_ignore_regex = [("py:.*", r"(?!rllib_lpdm\.).*"), ("py:.*", r".*\._.*")]


def _math(translator: Any, node: nodes.Element) -> None:
    """MathML, which browsers draw by themselves: no script, no font, no network."""
    block = isinstance(node, nodes.math_block)
    translator.body.append(tex2mathml(node.astext(), as_block=block))
    raise nodes.SkipNode


def _skip(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples stand under ``Attributes`` already."""
    return True if str(getattr(member, "__doc__", "")).startswith("Alias for field") else None


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (_math, None), (_math, None))
    app.connect("autodoc-skip-member", _skip)
