"""The bytes of a good file."""

import pytest


@pytest.fixture(scope="module")
def good(models):
    return models["q8_0"].read_bytes()
