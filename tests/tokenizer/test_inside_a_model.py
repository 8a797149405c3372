"""A tokenizer in its model's file, beside it, and beside the wrong one."""

import hashlib

import pytest

from helpers.models import make_model
from helpers.vocabularies import byte_bpe
from twofile.errors import ModelError
from twofile.model import Model


@pytest.mark.parametrize("dtype", ["f32", "q8_0", "q4_k"])
def test_tokenizer_inside_the_model(dtype, tmp_path):

    raw = byte_bpe()
    path = make_model(tmp_path / "m.bin", dtype, vocab_size=263, tokenizer=raw, embed=True)
    m = Model(path, verbose=False)
    assert m.tokenizer.sha256 == hashlib.sha256(raw).digest()
    assert m.detokenize(m.tokenize("the naïve 🙂")) == "the naïve 🙂"


def test_t9_tokenizer_of_another_model(tmp_path):

    path = make_model(tmp_path / "model.bin", "f32", vocab_size=263, tokenizer=byte_bpe())
    with pytest.raises(ModelError, match="not found; expected this model's tokenizer"):
        Model(path)
    (tmp_path / "tokenizer.bin").write_bytes(byte_bpe(pretok=2))
    with pytest.raises(ModelError, match="of another model"):
        Model(path)
    (tmp_path / "tokenizer.bin").write_bytes(byte_bpe())
    assert Model(path, verbose=False).tokenize("the") == [257]


def test_t2_a_head_wider_than_the_vocabulary_never_speaks(tmp_path):
    """Padded heads are common: ids that the tokenizer does not know are never chosen."""

    path = make_model(tmp_path / "model.bin", "f32", vocab_size=400, tokenizer=byte_bpe(), embed=True)
    m = Model(path, verbose=False)
    tokens = [c.token for c in m.stream("the", max_tokens=100, temperature=5.0, top_k=0, seed=1, ignore_eos=True)]
    assert max(t for t in tokens if t is not None) < 263
    with pytest.raises(ModelError, match="263 tokens, the model 93"):
        Model(make_model(tmp_path / "small.bin", "f32"), tokenizer=tmp_path_tokenizer(tmp_path, byte_bpe()))


def tmp_path_tokenizer(folder, raw):
    path = folder / "t.bin"
    path.write_bytes(raw)
    return path
