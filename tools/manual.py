"""
Write the man page of the command, docs/twofile.1.       python tools/manual.py [--check]

Its text is made by twofile/command/manual.py, of the program's own flags.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from twofile.command.manual import manual  # noqa: E402

PAGE = ROOT / "docs" / "twofile.1"


def main(argv):
    same = PAGE.exists() and PAGE.read_text() == manual()
    if "--check" in argv:
        if not same:
            print("manual.py: error: docs/twofile.1 is not what the program says; make run.py")
        return int(not same)
    if not same:
        PAGE.write_text(manual())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
