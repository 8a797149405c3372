"""
Turn a trained model into one flat file that run.py maps.    python export.py SOURCE -o model.bin

The program is twofile/export/, a room for each source, family and kind of tokenizer.
"""

import sys

try:
    import numpy  # noqa: F401

    from twofile.export.main import launch_exporter
except ImportError as e:
    text = f"the package numpy is not installed or too old ({e}); expected 2.0 or newer"
    sys.exit(f"export.py: error: {text}; pip install -U numpy")

if __name__ == "__main__":
    launch_exporter()
