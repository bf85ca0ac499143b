"""The site's settings for Sphinx; `make docs` builds it, without network, into docs/_build/html."""

import pathlib
import re
import shutil
import sys

DOCS = pathlib.Path(__file__).parent
sys.path.insert(0, str(DOCS))
sys.path.insert(0, str(DOCS.parent))

import docstrings  # noqa: E402

from tfp_flows import _types  # noqa: E402

project = "tfp_flows"
version = release = "0.2.0"
copyright = "the authors of tfp_flows, Apache-2.0"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # MathJax from a package, so that pages need no network
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "tensorflow_serving"]

# Pages keep their outputs: `make docs-execute` runs them, `make docs` does not.
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_inherit_docstrings = False  # what comes from Keras or TFP is described there
autodoc_member_order = "bysource"  # of a module: the order of its `__all__`
# Hints show the short names of `tfp_flows._types`.
autodoc_type_aliases = {name: name for name in _types.__annotations__}
maximum_signature_line_length = 100  # longer ones have a line for each argument
default_role = "code"

html_theme = "furo"
html_title = "tfp_flows"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def copy_notebooks(app):
    """The notebooks are pages too; Sphinx wants them below this folder."""
    folder = DOCS / "notebooks"
    folder.mkdir(exist_ok=True)
    for path in (DOCS.parent / "notebooks").glob("*.ipynb"):
        shutil.copyfile(path, folder / path.name)


def skip_what_others_wrote(app, what, name, obj, skip, options):
    """TFP copies its own methods into every distribution; they are described there."""
    return skip or not getattr(obj, "__module__", "tfp_flows").startswith("tfp_flows") or None


def short_names(app, what, name, obj, options, signature, returns):
    """In a union Sphinx writes the name of a hint as `TypeAliasForwardRef('Array')`."""
    return tuple(text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text) for text in (signature, returns))


def setup(app):
    app.connect("autodoc-process-signature", short_names)
    app.connect("builder-inited", copy_notebooks)
    app.connect("autodoc-skip-member", skip_what_others_wrote)
    app.connect("autodoc-process-docstring", docstrings.process)
