"""The table of families: switches are fields, and no family is asked for by its name elsewhere."""

import ast

import pytest

from helpers.places import ROOT
from twofile.export.families.family import Family, Gguf, Hub
from twofile.export.families.names import in_gguf, like_llama
from twofile.export.families.table import FAMILIES

ROWS = "llama norms gemma gpt cohere experts qwen lfm".split()


@pytest.mark.parametrize(
    "row",
    [
        lambda: Hub(label="NewForCausalLM", interleavd=True),
        lambda: Gguf(arch="new", plus_on=True),
        lambda: Family(layernorm=True),
        lambda: like_llama(w4="mlp.other"),
        lambda: in_gguf(dict(an3="other_norm")),
    ],
)
def test_a_misspelt_switch_is_an_error(row):
    with pytest.raises(TypeError):
        row()


def test_every_family_is_there_once():
    labels = [family.hub.label for family in FAMILIES]
    assert len(set(labels)) == len(labels)
    mixtures = [(f.gguf.arch, bool(f.gguf.names.router)) for f in FAMILIES if f.gguf]
    assert len(set(mixtures)) == len(mixtures)


def test_no_family_is_asked_for_by_its_name_elsewhere():
    names = {name for f in FAMILIES for name in (f.hub.label, f.hub.short, f.hub.pictures)}
    names |= {f.gguf.arch for f in FAMILIES if f.gguf}
    names |= {f"GGUF of {f.gguf.arch}" for f in FAMILIES if f.gguf}
    place, found = ROOT / "twofile" / "export", []
    rows = {place / "families" / f"{name}.py" for name in ROWS}
    for path in set(place.rglob("*.py")) - rows - set(place.glob("tokenizers/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            asked = ast.walk(node) if isinstance(node, (ast.Compare, ast.MatchValue)) else ()
            found += [(path.name, n.value) for n in asked if isinstance(n, ast.Constant) and n.value in names - {None}]
    assert not found
