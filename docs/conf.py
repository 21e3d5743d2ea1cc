"""The site, as `make docs` builds it: pages, a page a registered name, the executed gallery."""

import sys
import warnings
from pathlib import Path

import krylearn

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
# Examples draw to files; matplotlib says at each show() that it cannot open a window.
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")

project = "krylearn"
author = "The krylearn developers"
project_copyright = "2026, the krylearn developers"
release = version = krylearn.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "method_pages",
]
exclude_patterns = ["_ext", "**/GALLERY_HEADER.rst"]
nitpicky = False
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "none"  # numpydoc's Parameters say it
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "furo"
html_title = f"krylearn {release}"
html_static_path = ["_static"]
html_css_files = ["krylearn.css"]
html_copy_source = False
html_show_sphinx = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "ExampleTitleSortKey",
    "backreferences_dir": None,
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 0,
    "image_scrapers": ("matplotlib",),
    "remove_config_comments": True,
}
