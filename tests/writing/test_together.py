"""Many texts at once: the same as one by one."""

import pytest

from helpers.models import PROMPTS
from twofile.forward import Forward
from twofile.model import Model
from twofile.options import line_seed
from twofile.writer import Writer


@pytest.mark.parametrize("places", [1, 2, 3, 8, 16])
def test_together_is_one_by_one(tiny, places):
    m = Model(tiny, verbose=False)
    prompts = [p for p in PROMPTS if p]
    got = m.batch(prompts, 30, places=places, seed=7, temperature=1.5)
    assert got == [m.generate(p, 30, seed=line_seed(7, n), temperature=1.5) for n, p in enumerate(prompts)]
    assert len(set(got)) == len(got)


def test_a_common_beginning_is_read_once(tiny):
    """Texts that begin alike wait for the first to be read, and copy it: fewer passes, the same texts."""
    m = Model(tiny, verbose=False)
    common = [int(i) for i in range(3, 103)] + [5] * 50
    prompts = [common + [n + 7] for n in range(6)]
    passes, real = [], Forward.__call__
    Forward.__call__ = lambda self, tokens, *rest: passes.append(len(tokens)) or real(self, tokens, *rest)
    try:
        got = m.batch(prompts, 5, places=6, seed=1, ignore_eos=True)
    finally:
        Forward.__call__ = real
    assert sum(passes) < 2 * len(common) + 6 * 10
    assert got == [m.generate(p, 5, seed=line_seed(1, n), ignore_eos=True) for n, p in enumerate(prompts)]


def test_ends_of_all_kinds(tiny):
    """Stop strings, the end token, no tokens at all, and a full context, side by side."""
    m = Model(tiny, verbose=False)
    asked = [
        dict(prompt="the", max_tokens=0),
        dict(prompt="a", max_tokens=None, ignore_eos=True),
        dict(prompt="the fox", max_tokens=50, stop=["e", "t"]),
        dict(prompt="hen", max_tokens=200, temperature=5.0, top_k=0, min_p=0.0, top_p=1.0),
        dict(prompt=list(range(100)) * 2, max_tokens=0),
    ]
    writers = [Writer(m, seed=3, **options) for options in asked]
    for _ in m.together(iter(writers), 3):
        pass
    for w, options in zip(writers, asked):
        alone = list(m.stream(**options, seed=3))
        assert [c.token for c in w.chunks] == [c.token for c in alone] and w.written == "".join(c.text for c in alone)
        assert w.reason == alone[-1].finish_reason
    assert [w.reason for w in writers][:2] == ["length", "context"] and writers[4].reason == "length"
