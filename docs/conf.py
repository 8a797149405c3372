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
    "Use": "docs/usage docs/chat docs/library docs/reference docs/serve docs/structure docs/tools docs/memory examples/README",
    "First hours": "docs/transcripts/newcomer docs/transcripts/pipeline docs/transcripts/service",
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
autodoc_default_options = {
    "members": True,
    "inherited-members": "dict,tuple,BaseException,OSError",
    "special-members": "__call__",
}
autodoc_preserve_defaults = True
nitpick_ignore_regex = [("py:class", r"(collections|numpy|os|typing|twofile\.\w+)\..*")]  # what is not on these pages


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


def inner(app, what, name, thing, skip, options):
    """Methods without types are for the rooms of the program."""
    return True if inspect.isfunction(thing) and not thing.__annotations__ else None


def in_short(app, what, name, thing, options, signature, returns):
    """A signature that takes all Options says **options."""
    if signature and "mirostat_eta" in signature and thing is not twofile.Sampling:
        from sphinx.util.inspect import stringify_signature

        keys, told = twofile.Options.__annotations__, inspect.signature(thing)
        kept = [p for p in told.parameters.values() if p.name != "self" and (p.kind != p.KEYWORD_ONLY or p.name not in keys)]
        rest = inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD, annotation=twofile.Options)
        told = told.replace(parameters=[*kept, rest])
        return stringify_signature(told, show_return_annotation=False, unqualified_typehints=True), returns


def exported(app, env, node, content):
    """A class is called by the room that it stands in, and told of by the name that is imported."""
    name = node.get("reftarget", "").rpartition(".")[2]
    if node.get("refdomain") == "py" and name in twofile.__all__:
        return env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, "obj", f"twofile.{name}", node, content)


def first_page(app, error):
    """README.html is index.html too."""
    if not error and app.builder.format == "html":
        shutil.copy(Path(app.outdir, f"{root_doc}.html"), Path(app.outdir, "index.html"))


def setup(app):
    app.connect("source-read", completed)
    app.connect("autodoc-process-docstring", plain)
    app.connect("autodoc-skip-member", inner)
    app.connect("autodoc-process-signature", in_short)
    app.connect("missing-reference", exported)
    app.connect("build-finished", first_page)
