"""How Sphinx makes the pages: `make docs`."""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

project = "lossatlas"
author = "the authors"
release = re.findall(r'__version__ = "(.*)"', (DOCS.parent / "lossatlas" / "__init__.py").read_text())[0]
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {"Axis": "Axis", "Net": "Net"}
python_maximum_signature_line_length = 88
html_theme = "furo"
html_title = "Loss landscapes of neural networks"
html_show_copyright = False
html_show_sphinx = False


def link(found):
    """A link of the README as it is from here: pages of the site, files of the project, or the file's name alone."""
    text, target = found.groups()
    if target.startswith(("http", "#")):
        return found[0]
    if target.startswith("docs/"):
        return f"[{text}]({target.removeprefix('docs/')})"
    return f"{text} (`{target}`)" if target != text else f"`{target}`"


readme = re.sub(
    r"\[([^\]]+)\]\(([^)]+)\)", link, (DOCS.parent / "README.md").read_text().replace('src="docs/', 'src="')
)
(DOCS / "readme.md").write_text(re.sub("^# .*", "# What one can do", readme, count=1))


def setup(app):
    """Docstrings are plain text: what reStructuredText would take for marks in them stays as it is."""

    def plain(app, what, name, obj, options, lines):
        lines[:] = [line.replace("|", r"\|").replace("*", r"\*") for line in lines]

    app.connect("autodoc-process-docstring", plain)
