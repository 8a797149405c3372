"""Names in rooms: each room that knows a name has it as its own."""

import sys


def knowing(name):
    """The rooms that know a name."""
    rooms = [m for key, m in sys.modules.items() if key.split(".")[0] == "twofile" and hasattr(m, name)]
    assert rooms, f"no room knows {name}"
    return rooms


def replace(name, value):
    """Replace a name in every room that knows it."""
    for room in knowing(name):
        setattr(room, name, value)


def patch(monkeypatch, name, value):
    """The same, until the test is over."""
    for room in knowing(name):
        monkeypatch.setattr(room, name, value)
