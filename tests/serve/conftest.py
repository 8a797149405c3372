"""The server is an extra."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def packages():
    for package in ("starlette", "uvicorn", "jsonschema", "prometheus_client", "llguidance"):
        pytest.importorskip(package)
