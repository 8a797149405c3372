"""Tables of frequencies."""

import numpy as np

from twofile.export.rope import rope_table


def test_rope_scaling():
    """linear divides all frequencies; llama3's as transformers computes it (values of Llama 3.2 1B)."""
    plain = rope_table(64, 500000.0)[0, 0]
    assert np.allclose(rope_table(64, 500000.0, {"type": "linear", "factor": 4.0})[0, 0], plain / 4)
    s = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    got, wavelength = rope_table(64, 500000.0, s)[0, 0], 2 * np.pi / plain
    assert np.allclose(got[wavelength < 8192 / 4], plain[wavelength < 8192 / 4])
    assert np.allclose(got[wavelength > 8192], plain[wavelength > 8192] / 32)
    between = (wavelength >= 8192 / 4) & (wavelength <= 8192)
    assert between.any() and ((got < plain) & (got > plain / 32))[between].all()
