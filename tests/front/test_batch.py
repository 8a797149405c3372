"""--batch where memory is scarce."""

import pytest

from helpers.models import make_model
from helpers.rooms import patch
from twofile.errors import ModelError
from twofile.front.main import main
from twofile.model import Model


def test_a_context_that_memory_does_not_hold_is_halved_and_said(tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level("INFO", "twofile")
    path = make_model(tmp_path / "m.bin", "q8_0", max_ctx=1 << 20)
    each = Model(path, verbose=False).cache_bytes(1 << 18)
    patch(monkeypatch, "total_memory", lambda: 4 * each + 1000)
    m = Model(path)
    assert m.n_ctx == 1 << 18 and "context of 262144 tokens; 1048576 would take" in caplog.text
    assert m.generate([1, 2, 3], max_tokens=5, ignore_eos=True, temperature=0) is not None
    assert Model(path, n_ctx=1 << 19, verbose=False).generate([1, 2, 3], max_tokens=5) is not None  # asked for
    with pytest.raises(ModelError, match="choose a smaller n_ctx"):
        Model(path, n_ctx=1 << 20, verbose=False).generate([1, 2, 3])  # no less will do
    (tmp_path / "lines").write_text('{"prompt": [1], "max_tokens": 2}\n' * 5)
    assert main([str(path), "--batch", str(tmp_path / "lines"), "-o", str(tmp_path / "out"), "-np", "4"]) == 0
    assert "context of 262144 tokens" in capsys.readouterr().err
