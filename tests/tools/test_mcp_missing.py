"""Without the package mcp."""

import sys

import pytest

from twofile.errors import ModelError
from twofile.tools.mcp import mcp_tools


def test_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert mcp_tools([], ()) == []
    with pytest.raises(ModelError, match=r'mcp: the package mcp is not installed, expected it; pip install "twofile\[tools\]"'):
        mcp_tools(["x"], ())
