"""Ids become text as they come, in whole characters."""

from helpers.vocabularies import byte_bpe, spm
from twofile.tokenizer.stream import TextStream
from twofile.tokenizer.tokenizer import Tokenizer


def test_text_stream_gives_whole_characters():
    t = Tokenizer(byte_bpe())
    stream, out = TextStream(t), []
    for token in "naïve 🙂".encode():
        out.append(stream.push(token))
    assert "".join(out) == "naïve 🙂" and "\ufffd" not in "".join(out)
    assert out[-1] == "🙂" and out[-4:-1] == ["", "", ""]
    assert stream.push(0xF0) == "" and stream.flush() == "\ufffd"


def test_stream_keeps_the_leading_space_of_a_continuation():
    t = Tokenizer(spm())
    ids = t.encode("ab", add_bos=False)
    assert "".join(map(TextStream(t).push, ids)) == " ab"
    assert "".join(map(TextStream(t, start=True).push, ids)) == "ab"
