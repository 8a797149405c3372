"""What every source must become."""

import pytest

from helpers.checkpoints import convert, llama2c_file, tensors, weights


@pytest.fixture
def want(tmp_path):
    """The canonical float32 tensors of weights(), by the plainest route: a version 0 file."""
    assert convert(llama2c_file(tmp_path / "v0.bin", weights()), tmp_path / "v0.model", "--type", "f32") == 0
    return tensors(tmp_path / "v0.model")
