"""The model that comes with the program."""

import json
import re

from helpers.places import ROOT
from twofile.export.write import layout
from twofile.format.types import type_of
from twofile.model import Model
from twofile.modelfile import open_model, verify


def test_the_committed_model_is_whole():
    model = Model(ROOT / "model.bin", verbose=False)
    verify(model.file)
    model.tokenizer.selftest()
    text = model.generate("Once upon a time", max_tokens=60, temperature=0)
    assert len(text.split()) > 25 and text.isprintable() | ("\n" in text)
    assert json.dumps(model.info)
    assert layout(model.config, type_of("q8_0"))


def test_what_is_written_of_the_committed_model_is_of_this_file():
    """Its size and types in its card, its size in the table of sizes, its id in the figures of the attacks."""
    file = open_model(ROOT / "model.bin")
    size, kinds = f"{file.size:,}", {t.type.name for t in file.tensors.values() if t.type.quantised}
    card, made, attacks = ((ROOT / p).read_text() for p in ("train/MODEL.md", "train/README.md", "docs/attacks.md"))
    assert f"{size} bytes" in card and all(kind in card for kind in kinds)
    assert re.search(rf"^\| \*\*model\.bin\*\*[^|]*\| {size} \|", made, re.M)
    assert set(re.findall(r"\b[0-9a-f]{16}\b", attacks)) > {file.model_id[:16]}


def test_the_committed_model_does_what_it_is_asked():
    """The first screen of the README is what the program prints; and a fox and a shoe are in the story about them."""
    model, readme = Model(ROOT / "model.bin", verbose=False), (ROOT / "README.md").read_text()
    ask = lambda text, seed: model.create_chat_completion([{"role": "user", "content": text}], seed=seed)["choices"][0]
    shown = re.search(r"exactly this, on every machine\):\n\n```\n(.*?)\nprompt \d+ tok", readme, re.S).group(1)
    assert ask("Once upon a time", 1)["message"]["content"].split() == shown.split()
    about = model.encode_chat([{"role": "user", "content": "Tell me a story about a fox and a lost shoe."}])
    found = model.best_of(about, 16, lambda text: ("fox" in text) + ("shoe" in text), places=16, seed=1, max_tokens=400)
    assert found[0].worth == 2 and sum(w.worth >= 1 for w in found) >= 12 and sum(w.reason == "eos" for w in found) >= 12
    print(sum(w.worth == 2 for w in found), "of 16 have the fox and the shoe")
