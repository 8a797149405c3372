"""
The documents as a site: make docs, or sphinx-build -W --keep-going -n -c docs . build/docs

The pages are the files as they are read elsewhere, with the same links; what only a site needs is added here.
"""

import inspect
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import twofile  # noqa: E402

project, release = "twofile", twofile.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
PAGES = {
    "Use": "docs/usage docs/library docs/reference docs/serve docs/structure docs/tools docs/memory examples/README",
    "Models": "docs/export docs/families docs/format train/README train/MODEL",
    "Inside": "docs/architecture docs/speed docs/attacks SECURITY CONTRIBUTING",
}
include_patterns = ["README.md", *(f"{page}.md" for pages in PAGES.values() for page in pages.split())]
myst_heading_anchors = 3

smartquotes = False  # "" and -- are what one types

html_theme = "furo"
html_title = f"twofile {release}"
html_show_copyright = html_show_sphinx = html_copy_source = False
pygments_style, pygments_dark_style = "friendly", "monokai"
highlight_language = "text"  # of a block that says no other

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "inherited-members": True, "special-members": "__call__"}
autodoc_preserve_defaults = True


def completed(app, name, source):
    """A page's text: links to a folder lead to its README, and the first page has the list of all."""
    here = Path(app.env.doc2path(name)).parent
    readme = lambda m: f"]({m[1]}README.md)" if (here / m[1] / "README.md").exists() else m[0]
    source[0] = re.sub(r"\]\(([\w./]+/)\)", readme, source[0])
    if name == root_doc:
        for title, pages in PAGES.items():
            listed = "\n".join(f"/{page}" for page in pages.split())
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{listed}\n```\n"


def plain(app, what, name, thing, options, lines):
    """A docstring is plain text, in which nothing is markup. Of its paragraphs, what is said of parameters becomes a list."""
    try:
        names = set(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        names = set()
    name = rf"(?:{'|'.join([*names, 'Attributes'])})\b(?: ?\([^)]*\))?(?: -> \w+)?"
    begins = re.compile(rf"(?<=[.;)]) (?=(?:{name}, )*{name}: |Raises )")
    text = re.sub(r"([*`|\\]|(?<=\w)_(?!\w))", r"\\\1", "\n".join(lines))
    lines.clear()
    for paragraph in re.split(r"\n\s*\n|\n(?=- )", text.strip()):
        for part in begins.split(" ".join(paragraph.removeprefix("- ").split())):
            said = re.match(rf"((?:{name}, )*{name}): (.*)", part)
            lines += [f"- **{said[1]}**: {said[2]}" if said else part, ""]


def first_page(app, error):
    """README.html is index.html too."""
    if not error and app.builder.format == "html":
        shutil.copy(Path(app.outdir, f"{root_doc}.html"), Path(app.outdir, "index.html"))


def setup(app):
    app.connect("source-read", completed)
    app.connect("autodoc-process-docstring", plain)
    app.connect("build-finished", first_page)
