"""A text becomes passages of some 100 to 200 words, each with its place."""

import re
from typing import NamedTuple

LEAST, MOST = 600, 1200  # bytes of UTF-8 of a passage: some 100 to 200 words of English
TITLE = 200  # characters of a heading that are kept
ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(.*)")
RULE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
FENCE = re.compile(r" {0,3}(```|~~~)")
PART = re.compile(  # of a book
    r"(?:chapter|part|book|section|act|scene|volume|appendix)\b.{0,70}$"
    r"|[IVXLC]{1,7}[.:]?(?: ?[-\u2014:.] .{1,60})?$",
    re.I,
)
SENTENCE_END = re.compile(
    r"(?<=[.!?\u3002\uff01\uff1f])[\"'\u201d\u2019)\]]*\s+|(?<=[\u3002\uff01\uff1f])"
)


class Passage(NamedTuple):
    """A piece of a text. line: its first, from 1. heading: what it stands under, the outermost
    first, or "". file: below the folder, with slashes."""

    text: str
    line: int
    heading: str = ""
    file: str = ""


def weight(text):
    """Bytes of UTF-8, which tell how much a model reads of it better than characters do."""
    return len(text.encode("utf-8", "replace"))


def passages(text):
    """A text -> yields its Passages, in order: cut where a heading stands, between paragraphs, else
    between lines or sentences, at last anywhere. Nothing but white space is left out."""
    kept, line, size, under = [], 1, 0, ""
    for paragraph, at, heading, begins in blocks(text):
        for piece, row in pieces(paragraph, at):
            own = weight(piece)
            if kept and (begins and size >= LEAST // 4 or size + own > MOST or size >= LEAST):
                yield Passage("\n\n".join(kept), line, under)
                kept, size = [], 0
            if not kept:
                line = row
            if size < LEAST // 4:  # of a heading alone, or little more
                under = heading
            kept.append(piece)
            size, begins = size + own, False
    if kept:
        yield Passage("\n\n".join(kept), line, under)


def blocks(text):
    """Yield (paragraph, its first line from 1, heading that it stands under, whether that begins
    here); a heading is the first line of the paragraph behind it."""
    above, rows, first, begins, fenced, full = [], [], 1, False, False, False
    lines = re.split("\r\n|\r|\n", text)
    for n, line in enumerate(lines, 1):
        found = None if fenced else heading_of(lines, n - 1)
        if FENCE.match(line):
            fenced = not fenced
        if (found or not line.strip()) and full:
            yield "\n".join(rows), first, title(above), begins
            rows, begins, full = [], False, False
        if found:
            depth, name = found
            above = [pair for pair in above if pair[0] < depth] + [(depth, name)]
            begins = True
        if line.strip() or rows:
            first = first if rows else n
            rows.append(line.rstrip())
            full = full or bool(line.strip()) and is_text(line)
    if rows:
        yield "\n".join(rows).rstrip(), first, title(above), begins


def is_text(line):
    """Whether a line is more than a heading's."""
    return not (ATX.match(line) or RULE.match(line) or is_part(line))


def is_part(line):
    return len(line) < 80 and bool(PART.match(line.strip())) and not line.rstrip().endswith(",")


def heading_of(lines, n):
    """(depth, text) of a heading whose text is line n; None if it is none."""
    line = lines[n]
    if found := ATX.match(line):
        return len(found[1]), found[2].rstrip(" \t#")[:TITLE]
    behind = lines[n + 1] if n + 1 < len(lines) else ""
    before = lines[n - 1] if n else ""
    if line.strip() and len(line) < 100 and not before.strip():
        if RULE.match(behind) and len(behind.strip()) > 2:
            return (1 if "=" in behind else 2), line.strip()
        if is_part(line) and not behind.strip():
            return 1 if re.match(r"\s*(part|book|volume)\b", line, re.I) else 2, line.strip()
    return None


def title(above):
    return " > ".join(name for _, name in above)[:TITLE]


def pieces(paragraph, at):
    """Yield (piece, its line) of a paragraph, each of MOST at most: lines or sentences together."""
    if weight(paragraph) <= MOST:
        yield paragraph, at
        return
    kept, size = "", 0
    for part, newlines in shreds(paragraph):
        own = weight(part + newlines)
        if kept.strip() and size + own > MOST:
            yield kept.strip("\n"), at
            at, kept, size = at + kept.count("\n"), "", 0
        if kept.strip() or part.strip():
            kept, size = kept + part + newlines, size + own
        else:
            at += len(newlines)  # nothing begins with an empty line
    if kept.strip():
        yield kept.strip("\n"), at


def shreds(paragraph):
    """Yield (a line, sentence or part of one, the white space behind it)."""
    for row in paragraph.split("\n"):
        at = 0
        for end in (len(row),) if weight(row) <= MOST else sentence_ends(row):
            while (n := room_for(row[at : min(end, at + MOST)])) < end - at:
                n = max(row.rfind(" ", at + n // 2, at + n) + 1 - at, 0) or n
                yield row[at : at + n], ""
                at += n
            yield row[at:end], "\n" if end == len(row) else ""
            at = end


def sentence_ends(row):
    """Yield where the sentences of a line end, at last its own end."""
    yield from (m.end() for m in SENTENCE_END.finditer(row) if m.end() < len(row))
    yield len(row)


def room_for(text):
    """How many characters of a text have a weight of MOST together, or less."""
    return len(text.encode("utf-8", "replace")[:MOST].decode("utf-8", "ignore"))
