"""The site: `make docs` builds it, without a network, and any warning is an error."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_ext"))

import jaxprune

project = "jaxprune"
author = "the jaxprune authors"
copyright = author
version = release = jaxprune.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "api",
    "pages",
]
exclude_patterns = ["_ext"]
nitpicky = True
# Types of other libraries and classes that are not exported have no entries.
nitpick_ignore_regex = [(r"py:.*", r"(?!jaxprune\b).*"), (r"py:.*", r"jaxprune\..*\b_\w+\..*")]

myst_heading_anchors = 4
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
napoleon_custom_sections = [("Attributes", "params_style")]
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"jaxprune {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
