"""The site: Sphinx with MyST, whose tutorials are executed as it is built. Loads nothing remote."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_extensions")]
sys.path.append(str(DOCS.parent))  # for `training`; lvmzoo is the one that is installed
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # of tqdm, in notebooks without widgets
os.environ["LVMZOO_CHECKOUT"] = str(DOCS.parent)  # where tutorials find `training` and files

import lvmzoo  # noqa: E402

project = "lvmzoo"
author = "the lvmzoo authors"
copyright = f"2026, {author}"
version = release = lvmzoo.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "digits",
    "mathml",
    "reference",
    "zoo",
]
exclude_patterns = ["_build", "pypi.md"]

default_role = "py:obj"  # of docstrings' `names`
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_rtype = False
napoleon_custom_sections = [("Arguments", "params_style")]
python_maximum_signature_line_length = 80

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 1200  # seconds for a cell, on a busy machine
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_ipywidgets_js = {}  # would be loaded from a CDN

html_theme = "furo"
html_title = f"lvmzoo {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
