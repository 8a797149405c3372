"""The server against its own OpenAPI document, by schemathesis: requests that it allows, and such that it does not."""

import pytest

from helpers.clients import Room
from helpers.server import idle, serving

# that a schema allows a request need not mean that the model can do it: roles in turn, a context's length, one limit of two
NOT_MEANT = "positive_data_acceptance"


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    with Room(tmp_path_factory.mktemp("document")) as made:
        yield made


def test_schemathesis(room):
    """Some thousand requests: no failure of the server, no answer that the document does not know, none that it should refuse
    and does not."""
    python = room.client("schemathesis")
    with serving("model.bin", "-q", "--timeout", "1") as server:
        flags = ["-n", "20", "--seed", "1", "--no-color", "--warnings", "off", "--exclude-checks", NOT_MEANT]
        said = room.call([python.parent / "schemathesis", "run", f"{server.url}/openapi.json", *flags])
        assert "Tested: 0" not in said and " 0 generated" not in said
        idle(server)
