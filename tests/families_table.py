"""The table of architectures in docs/families.md: python tests/families_table.py"""

import contextlib
import io
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.hub import CASES, check  # noqa: E402


def table():
    """A row for each architecture: its cases, the worst root mean square and the worst difference, of logits' spread."""
    rows = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            found = check(name, case, Path(folder))
        rows.setdefault(case["config"]["architectures"][0], []).append((name, *found))
    print("| class of transformers | cases | worst rms / spread | worst difference / spread |\n|---|---|---:|---:|")
    for label, cases in rows.items():
        names, rms, largest = zip(*cases)
        print(f"| {label} | {', '.join(names)} | {max(rms):.1e} | {max(largest):.1e} |")


if __name__ == "__main__":
    table()
