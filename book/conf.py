"""Sphinx's settings for one language of the book; ``build.py`` says which."""

import os
import sys
from pathlib import Path

BOOK = Path(__file__).resolve().parent
sys.path[:0] = [str(BOOK), str(BOOK.parent)]

from prepare import say  # noqa: E402

LANGUAGE = os.environ.get("COURSE_LANGUAGE", "en")
WORK = Path(os.environ.get("COURSE_WORK", BOOK.parent / "build" / "book-work"))

project = html_title = say("project", LANGUAGE)
language = say("tag", LANGUAGE).replace("-", "_")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "extension"]
course_language = LANGUAGE

# What a page is made of
nb_execution_mode = "off"  # pages show what the notebooks store
nb_merge_streams = True
nb_render_markdown_format = "myst"
nb_code_prompt_show = say("code-show", LANGUAGE)
nb_code_prompt_hide = say("code-hide", LANGUAGE)
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
numfig = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
add_module_names = False
nitpicky = False

# How it looks
html_theme = "furo"
templates_path = ["templates"]
html_static_path = ["static", str(WORK / "static"), str(WORK / LANGUAGE / "_static")]
html_css_files = ["fonts/fonts.css", "katex/katex.min.css", "course.css"]
html_js_files = [("course.js", {"defer": ""}), ("widgets.js", {"defer": ""})]
html_copy_source = html_show_sourcelink = False
html_use_index = html_domain_indices = False
html_permalinks_icon = "#"
html_favicon = "static/mark.svg"
html_math_renderer = "drawn"
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "github-dark"
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
html_theme_options = {
    "light_css_variables": {
        "font-stack": "'Source Serif 4 Variable', Georgia, serif",
        "font-stack--headings": "'Source Sans 3 Variable', 'Segoe UI', sans-serif",
        "font-stack--monospace": "'Source Code Pro Variable', Menlo, monospace",
    }
}
