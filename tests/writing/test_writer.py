"""One text in the making: stop strings never leak, characters come whole."""

import random
import time

from twofile.model import Model
from twofile.writer import Writer


# what comes out
def test_a_stop_string_never_leaks(tiny):
    """P8: cut into tokens in every way, with others that begin alike; what was said before it is said, nothing of it is."""
    m, rng = Model(tiny, verbose=False), random.Random(8)
    for _ in range(1500):
        stops = ["".join(rng.choice("abé") for _ in range(rng.randint(1, 5))) for _ in range(rng.randint(1, 3))]
        text = "".join(rng.choice("abé") for _ in range(rng.randint(0, 40)))
        w, said = Writer(m, "x", 150, stop=stops), ""
        for token in text.encode():
            said += w.push(token).text
            assert not any(s in said for s in stops) and text.startswith(said)
            if w.reason:
                break
        said += "" if w.reason else w.push(None).text
        first = min((text.find(s) + len(s) for s in stops if s in text), default=None)
        found = [s for s in stops if first is not None and text[:first].endswith(s)]
        assert said == (text[: first - max(map(len, found))] if found else text)
    began = time.perf_counter()
    w = Writer(m, "x", 150, stop=["a" * 10**6 + "b", "ab" * 10**6])
    assert "".join(w.push(97 + i % 2).text for i in range(150)) == "" and time.perf_counter() - began < 2


def test_whole_characters_only(tiny):
    """P9: bytes are held until a character is whole; what is left at the end is one U+FFFD. (Also test_tokenizer.)"""
    m = Model(tiny, verbose=False)
    for cut in range(5):
        w = Writer(m, "x", 150)
        said = [w.push(b).text for b in ("é🙂".encode() + "🙂".encode()[:cut])]
        assert "\ufffd" not in "".join(said) and w.push(None).text == ("\ufffd" if 0 < cut < 4 else "")
