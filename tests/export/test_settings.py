"""What files beside a tokenizer's own say of it."""

import json
import struct
from pathlib import Path

import pytest

from helpers.jsons import CHARS, MARK, metaspace, spaced, theirs
from twofile.errors import ModelError
from twofile.export.tokenizers.any import lone_tokenizer
from twofile.tokenizer.file import CONTROL, USER
from twofile.tokenizer.tokenizer import Tokenizer

PIECES = ["<unk>", "<s>", "</s>", MARK, "a", "b", MARK + "a", MARK + MARK]


def field(number, value):
    """A value of a protobuf message."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    if isinstance(value, float):
        return bytes([number << 3 | 5]) + struct.pack("<f", value)
    return bytes([number << 3 | 2, len(value)]) + value


def pieces():
    """The bytes of a small SentencePiece model."""
    rows = [(text.encode(), -float(i), (2, 3, 3)[i] if i < 3 else 1) for i, text in enumerate(PIECES)]
    parts = [field(1, field(1, text) + field(2, score) + field(3, kind)) for text, score, kind in rows]
    return b"".join(parts) + field(2, field(3, 2)) + field(3, field(1, b"identity") + field(3, 1) + field(4, 0) + field(5, 1))


def read(folder, **files):
    """The Tokenizer of a folder with a SentencePiece model, or other files, and settings."""
    if "vocab__json" not in files:
        (folder / "tokenizer.model").write_bytes(pieces())
    for name, value in files.items():
        Path(folder, name.replace("__", ".")).write_text(value if isinstance(value, str) else json.dumps(value))
    return Tokenizer(lone_tokenizer(folder))


@pytest.mark.parametrize("legacy", [True, False])
def test_no_space_before_a_text_where_settings_say_so(legacy, tmp_path):
    plain = read(tmp_path, tokenizer_config__json=dict(legacy=legacy))
    bare = read(tmp_path, tokenizer_config__json=dict(legacy=legacy, add_prefix_space=False))
    assert plain.encode("a", add_bos=False) == [6] and bare.encode("a", add_bos=False) == [4]
    assert bare.encode(" a", add_bos=False) == [6] and bare.encode("b a", add_bos=False) == [5, 6]


def test_a_space_before_a_text_that_no_known_way_has(tmp_path):
    vocab = {CHARS[b]: b for b in range(256)}
    files = dict(vocab__json=vocab, merges__txt="#version: 0.2\n", config__json=dict(model_type="qwen2"))
    assert read(tmp_path, **files).encode("a") == [97]
    with pytest.raises(ModelError, match="pre-tokenizer .* is not supported"):
        read(tmp_path, **files, tokenizer_config__json=dict(tokenizer_class="Qwen2Tokenizer", add_prefix_space=True))


@pytest.mark.parametrize("where", ["special_tokens_map__json", "tokenizer_config__json"])
def test_special_tokens_that_a_list_names(where, tmp_path):
    """Those of added_tokens.json, by the list of either file: never found in a text."""
    files = {"added_tokens__json": {"[A]": 8, "[B]": 9, "[C]": 10}}
    files[where] = {"additional_special_tokens": ["[A]", {"content": "[B]", "lstrip": False}]}
    t = read(tmp_path, **files)
    assert t.types[8] == t.types[9] == CONTROL and t.types[10] == USER
    assert t.encode("[C]", add_bos=False)[-1] == 10 and not {8, 9} & {*t.encode("[A][B]")}


@pytest.mark.parametrize("file", ["config", "tokenizer_config", "added_tokens", "special_tokens_map", "chat_template"])
@pytest.mark.parametrize("raw", ["[1]", "", "\ufeff{}", '{"a":' * 9])
def test_settings_that_are_no_table(file, raw, tmp_path):
    with pytest.raises(ModelError, match=rf"{file}\.json: not readable JSON \(.*\); expected .*; is it whole\?"):
        read(tmp_path, **{f"{file}__json": raw})


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
@pytest.mark.parametrize("said", [True, False])
def test_words_that_begin_with_a_space_are_merged_apart(scheme, said, tmp_path):
    """Metaspace cuts there unless it says that it does not; no merge of two spaces happens then."""
    T = pytest.importorskip("tokenizers")
    pre = metaspace(scheme, True)
    if not said:
        del pre["split"]
    j = spaced([*"ab\n", MARK], [(MARK, MARK), (MARK, "a"), ("a", MARK), (MARK + MARK, "a")], pre=pre)
    (tmp_path / "tokenizer.json").write_text(json.dumps(j))
    t, want = Tokenizer(lone_tokenizer(tmp_path)), theirs(T, j)
    for text in ("a  b", "  a", "a a", "a\n  a ", f"b{MARK}{MARK}a", "   ", ""):
        assert t.encode(text, add_bos=False) == want(text), text
