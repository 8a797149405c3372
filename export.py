"""
Turn a trained model into one flat file that run.py maps.    python export.py SOURCE -o model.bin

The program is twofile/export/, a room for each source, family and kind of tokenizer.
"""

import sys

try:
    import numpy  # noqa: F401

    from twofile.export.main import launch
except ImportError as e:
    if __name__ != "__main__":
        raise
    text = f"the package numpy is not installed or too old ({e}); expected 2.0 or newer"
    sys.exit(f"export.py: error: {text}; pip install -U numpy")

if __name__ == "__main__":
    launch()

# TEMPORARY, while tests say export.NAME: the names of every room. Delete all that follows.
if __name__ != "__main__":
    from importlib import import_module
    from pathlib import Path

    for _path in sorted(Path(__file__).parent.glob("twofile/export/**/[a-z]*.py")):
        _room = _path.relative_to(Path(__file__).parent).with_suffix("").as_posix()
        _names = vars(import_module(_room.replace("/", "."))).items()
        globals().update({n: v for n, v in _names if not n.startswith("_")})
