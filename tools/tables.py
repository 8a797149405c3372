"""
Write the tables of docs/format.md from the program's own.       python tools/tables.py [--check]

Between <!-- NAME --> and <!-- end of NAME --> stands what NAME makes of FIELDS, FLAGS, TYPES.
"""

import re
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from twofile.format.fields import ANY, FIELDS, FLAGS, NONE  # noqa: E402
from twofile.format.types import TYPES  # noqa: E402

BEGIN = 0x060  # of the config in the file
CODES = {"I": "u32", "f": "f32"}


def number(value):
    """A whole number as people write it."""
    power = value > 4096 and value & (value - 1) == 0
    return f"2^{value.bit_length() - 1}" if power else str(value)


def fields():
    """A row for each number of the config."""
    rows, at = ["| at | type | number | range | |", "|---|---|---|---|---|"], BEGIN
    for field in FIELDS:
        size = struct.calcsize(f"<{field.code}")
        kind = CODES.get(field.code, f"{size} bytes")
        known = field.code == "I" and field.most != ANY
        span = f"{number(field.least)} to {number(field.most)}" if known else ""
        if field.name == "flags":
            span = ""
        elif not field.at:
            span = "0"
        rows.append(f"| 0x{at:03X} | {kind} | {field.name} | {span} | {field.meaning} |")
        at += size
    assert NONE == 0xFFFFFFFF
    return rows


def flags():
    """A row for each bit of flags."""
    rows = ["| bit | flag | set = |", "|---|---|---|"]
    return rows + [f"| {flag.bit} | {flag.name} | {flag.meaning} |" for flag in FLAGS]


def types():
    """A row for each type of elements."""
    rows = ["| number | type | bits | group | a weight is |", "|---|---|---|---|---|"]
    for t in TYPES:
        what = weight(t)
        rows.append(f"| {t.number} | {t.name} | {t.bits} | {t.group} | {what} |")
    return rows


def weight(t):
    """What an element of a Type is."""
    if not t.quantised:
        return "the number"
    bits = "entry of the list" if t.book else f"(bits - {t.zero})" if t.zero else "bits"
    scale, least = (f"{name}, {t.scale.name}" for name in ("scale", "least"))
    if t.above:
        scale, least = f"{scale}, × W.d", f"{least}, × W.d"
    return f"{bits} × {scale}" + (f", + {least}" if t.least else "")


def written(text):
    """The document with its tables as they must be."""
    for table in (fields, flags, types):
        name = table.__name__
        block = f"<!-- {name} -->\n\n" + "\n".join(table()) + f"\n\n<!-- end of {name} -->"
        form = rf"<!-- {name} -->.*?<!-- end of {name} -->"
        text, found = re.subn(form, lambda m, block=block: block, text, flags=re.S)
        assert found == 1, f"docs/format.md has {found} tables {name}, expected one"
    return text


def main(argv):
    path = ROOT / "docs" / "format.md"
    text = path.read_text()
    want = written(text)
    if "--check" in argv:
        if text != want:
            print("tables.py: error: docs/format.md is not what the program says; make tables")
        return int(text != want)
    if text != want:
        path.write_text(want)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
