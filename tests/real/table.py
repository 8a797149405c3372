"""The section "Real files" of docs/families.md."""

import datetime
import re

INTRO = """## Real files

Written by `python tests/real/compare.py --write` on {day}: {count:,} awkward strings for each vocabulary, against the library
named; 100 random conversations without and 100 with a system message for each template, against what jinja2 renders, encoded
by that library. The files come from packages that anybody can fetch; what cannot be fetched or compared is skipped in words. A
count is of differences.

"""


def write(path, rows, count):
    """Put the tables into the file, in place of its section."""
    text = path.read_text() if path.exists() else "# The files people have\n\n"
    body = INTRO.format(day=f"{datetime.date.today():%-d %B %Y}", count=count) + tables(rows)
    old = re.search(r"^## Real files\n.*?(?=^## |\Z)", text, re.M | re.S)
    text = text[: old.start()] + body + ("\n" if text[old.end() :] else "") + text[old.end() :] if old else text + body
    path.write_text(text)


def tables(rows):
    lines = ["| vocabulary | kind | | begins with | differences | chats of its own template |", "|---|---|---|---|---|---|"]
    for _, row in sorted(rows["vocabularies"].items()):
        cells = []
        for name, _, explained, left in row.get("references", ()):
            cells.append(f"{name} {left}" + "".join(f", {n} where {why}" for why, n in explained.items()))
        cells += [f"{name}: not installed" for name in row.get("missing", ())]
        line = [row["name"], row["of"], row["said"], code(row.get("begin")), "; ".join(cells), row["chats"] or ""]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |")
    lines += ["", "| template | tried with | chats |", "|---|---|---|"]
    for _, row in sorted(rows["templates"].items()):
        line = [row["name"], row["of"], row["chats"] or row["said"]]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |")
    return "\n".join(lines) + "\n"


def code(text):
    return f"`{text}`" if text else ""
