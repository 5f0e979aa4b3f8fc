"""Sphinx makes the documentation: `make docs`.

The tutorial is executed, the interactive page is written, and formulas become MathML, which browsers show by
themselves. The pages load nothing from elsewhere.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # of the tutorial

project = "lossatlas"
author = "the lossatlas maintainers"
release = re.findall(r'__version__ = "(.*)"', (ROOT / "lossatlas" / "__init__.py").read_text())[0]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_design", "sphinx_copybutton"]
exclude_patterns = ["_build", "**/.jupyter_cache"]
nitpicky = False
default_role = "code"  # of docstrings
smartquotes = False  # values can be copied

myst_enable_extensions = ["dollarmath", "html_image", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_type_aliases = {"AxisLike": "AxisLike", "Net": "Net"}
python_maximum_signature_line_length = 72
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "lossatlas"
html_show_copyright = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_math_renderer = "mathml"
copybutton_exclude = ".linenos, .gp, .go"


def math_element(node: nodes.Node, *, block: bool) -> str:
    return tex2mathml(node.astext(), as_block=block)


def show_inline_math(translator, node):
    translator.body.append(math_element(node, block=False))
    raise nodes.SkipNode


def show_math_block(translator, node):
    translator.body.append(f'<div class="formula">{math_element(node, block=True)}</div>')
    raise nodes.SkipNode


def write_live_pages(app):
    """The interactive pages of the landing page and the gallery, from the surfaces that lie in docs/surfaces."""
    from gallery import write_live

    write_live(Path(app.outdir) / "live")


def copy_films(app):
    """Films, which pages show by elements of HTML that Sphinx does not look into."""
    target = Path(app.outdir) / "pictures"
    target.mkdir(parents=True, exist_ok=True)
    for film in (DOCS / "pictures").glob("*.mp4"):
        shutil.copy(film, target)


def escape_marks(app, what, name, obj, options, lines):
    """Docstrings are plain text: characters that reStructuredText would take for marks stay as they are."""
    marks = {"|": r"\|", "*": r"\*", "FILE:": r"FILE\:"}  # the last one would be the address of a file
    for mark, escaped in marks.items():
        lines[:] = [line.replace(mark, escaped) for line in lines]


def offer_files(app, docname, source):
    """Files of the project that are not pages are offered for download."""
    folder = (DOCS / docname).parent

    def offered(found):
        text, target = found.groups()
        file = (folder / target).resolve()
        return f"{{download}}`{text} <{target}>`" if file.is_file() and DOCS not in file.parents else found[0]

    source[0] = re.sub(r"\[([^\]\[]+)\]\((\.\.[^)#]*)\)", offered, source[0])


def setup(app):
    app.add_html_math_renderer("mathml", (show_inline_math, None), (show_math_block, None))
    app.connect("builder-inited", write_live_pages)
    app.connect("builder-inited", copy_films)
    app.connect("source-read", offer_files)
    app.connect("autodoc-process-docstring", escape_marks, priority=400)  # before napoleon, whose marks count
