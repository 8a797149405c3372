"""The documents as a site: which pages there are, and how docstrings become a page. `make docs` builds it."""

import importlib.util
import re
from types import SimpleNamespace

import pytest

import twofile
from helpers.places import ROOT
from test_house import DOCUMENTS


@pytest.fixture(scope="module")
def conf():
    spec = importlib.util.spec_from_file_location("conf", ROOT / "docs" / "conf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_document_is_a_page(conf):
    found = [*DOCUMENTS, *(ROOT / "docs").rglob("*.md"), ROOT / "train" / "MODEL.md"]
    told = {path.relative_to(ROOT).as_posix() for path in found}
    assert set(conf.include_patterns) == told and len(conf.include_patterns) == len(told)


def test_the_reference_tells_of_all_that_is_exported():
    told = re.findall(r"^\.\. auto\w+:: twofile\.(\w+)$", (ROOT / "docs" / "reference.md").read_text(), re.M)
    assert set(told) == {name for name in twofile.__all__ if name != "__version__"} and len(told) == len(set(told))


def shown(conf, thing, text):
    lines = text.split("\n")
    conf.plain(None, "function", "f", thing, None, lines)
    return [line for line in lines if line]


def test_a_docstring_is_plain_text(conf):
    """No mark-up in it, and a row for each parameter that it tells of, and no other."""

    def f(path, n_max, notice): ...

    text = "As f*, `g` or _h_: **path.\n\npath, n_max: what\na: b is; n_max: none. notice(text): told. Raises X_ now."
    assert shown(conf, f, text + "\nAttributes: path.\n\n- path: a\n  file.\n- x: b.") == [
        r"As f\*, \`g\` or _h\_: \*\*path.",
        "- **path, n_max**: what a: b is;",
        "- **n_max**: none.",
        "- **notice(text)**: told.",
        r"Raises X\_ now.",
        "- **Attributes**: path.",
        "- **path**: a file.",
        "x: b.",
    ]
    assert shown(conf, 5, "path: a file.") == ["path: a file."]


def test_links_to_folders_and_the_list_of_pages(conf):
    app = SimpleNamespace(env=SimpleNamespace(doc2path=lambda name: str(ROOT / f"{name}.md")))
    source = ["see [it](../examples/), [a file](../run.py) and [web](https://a.b/c/)"]
    conf.completed(app, "docs/library", source)
    assert source == ["see [it](../examples/README.md), [a file](../run.py) and [web](https://a.b/c/)"]
    conf.completed(app, "README", source)
    assert source[0].count("{toctree}") == len(conf.PAGES) and "\n/docs/library\n" in source[0]


def test_signatures_are_short(conf):
    """What takes all options takes **options; what has no types is not told of."""
    pytest.importorskip("sphinx", reason="needs Sphinx: pip install -r requirements-docs.txt")
    signature, returns = conf.in_short(None, "method", "m", twofile.Model.generate, None, "(…, mirostat_eta=None)", "str")
    assert signature.endswith(", **options: ~twofile.given.Options)") and returns == "str"
    assert not re.search("self|temperature", signature)
    assert conf.in_short(None, "method", "m", twofile.Model.tokenize, None, "(text)", "list") is None

    def typed(x: int): ...

    assert conf.inner(None, "class", "x", typed, False, None) is None and conf.inner(None, "class", "x", shown, False, None)
