"""What is measured on a machine: kept with the kernels, and of no influence on any bit."""

import numpy as np
import pytest

from helpers.logits import SILENT
from helpers.models import make_model
from twofile.compiler.kept import read_cached, write_cached
from twofile.forward import Forward
from twofile.modelfile import open_model
from twofile.program.operands import AHEAD, PASS_SPINS
from twofile.tuned import AHEADS, KEPT_AS, Tuned, tuned


@pytest.fixture
def forward(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    return Forward(open_model(make_model(tmp_path / "m.bin", "q4_0")), 64, 1, "f16", 2, SILENT)


def test_it_is_measured_once_and_kept(forward, monkeypatch):
    import twofile.tuned

    found = forward.tuned
    assert found.usable() and found.ahead in AHEADS
    assert read_cached(forward.code.folder, KEPT_AS, SILENT)[0] == f"{found.ahead} {found.spins}"
    assert (forward.player.program[:, AHEAD // 8] == found.ahead).all() and forward.player.words[PASS_SPINS // 8] == found.spins

    def again(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(twofile.tuned, "best_ahead", again)
    assert tuned(forward.code, forward.kernels(), SILENT) == found
    for text in ("", "no numbers", "4096", "4097 500", "4096 0", "4096 9999999"):  # somebody else's, or an older version's
        write_cached(forward.code.folder, KEPT_AS, (text, b""), SILENT)
        with pytest.raises(AssertionError, match="measured again"):
            tuned(forward.code, forward.kernels(), SILENT)


def test_the_bits_do_not_depend_on_it(forward):
    """Nor do they on a distance that leads out of the file: to ask for memory that is not there does no harm."""
    found = set()
    for other in (Tuned(), Tuned(64, 16), Tuned(8192, 1 << 16), Tuned(1 << 40, 20)):
        forward.tuned = other
        forward.player.stop()
        forward.close.detach()
        forward.begin()
        for n in (1, 21):
            logits = forward(list(range(n)), range(n), [0] * n, [n - 1])
            found.add((n, logits.tobytes()))
            assert np.isfinite(logits).all() and logits.any()
    assert len(found) == 2


def test_numbers_have_nothing_to_measure(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    forward = Forward(open_model(make_model(tmp_path / "m.bin", "f32")), 64, 1, "f16", 1, SILENT)
    assert forward.tuned == Tuned() and read_cached(forward.code.folder, KEPT_AS, SILENT) is None
