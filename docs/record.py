"""
Record commands in a terminal as an SVG that plays: what is typed, then what comes, when it comes.

    python docs/record.py OUT.svg [--columns 100] [--title TEXT] 'python run.py model.bin -p "Once upon a time"'
    python docs/record.py OUT.svg --type 'Hello!' --type /exit 'python run.py model.bin --chat'

--type: lines typed at each prompt "> " of the program. Text that moves the cursor is not understood: run.py writes none.
"""

import argparse
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from html import escape

LINE, WIDE = 18, 7.8  # pixels a row, pixels a column


def record(command, columns, typed):
    """-> [(seconds, text)] as they appear; what is typed comes at a person's pace."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 60, columns, 0, 0))
    env = {**os.environ, "TERM": "dumb", "PS1": "", "TWOFILE_HISTORY": ""}
    process = subprocess.Popen(command, shell=True, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True)
    os.close(theirs)
    began, events, seen, typed = time.monotonic(), [], "", list(typed)
    while True:
        try:
            block = os.read(ours, 4096) if select.select([ours], [], [], 120)[0] else b""
        except OSError:
            block = b""
        if not block:
            break
        text = block.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "")
        seen += text
        events.append((time.monotonic() - began, text))
        if typed and seen.endswith("\n> "):
            for letter in typed.pop(0) + "\n":
                time.sleep(0.05)
                os.write(ours, letter.encode())
    process.wait()
    return events


def rows_of(events, columns):
    """-> rows of [(seconds, text)], folded at the terminal's width."""
    rows, at = [[]], 0
    for when, text in events:
        for part in text.splitlines(keepends=True):
            line, end = part.rstrip("\n"), part.endswith("\n")
            while line:
                piece, line = line[: columns - at], line[columns - at :]
                rows[-1].append((when, piece))
                at += len(piece)
                if at == columns and line:
                    rows.append([])
                    at = 0
            if end:
                rows.append([])
                at = 0
    return rows if rows[-1] else rows[:-1]


def svg(rows, columns, title):
    width, height = columns * WIDE + 32, len(rows) * LINE + 60
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" role="img">',
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" rx="8" fill="#16181d"/>',
        f'<text x="16" y="24" fill="#8a919e" {FONT}>{escape(title)}</text>',
        f'<g fill="#e6e8eb" xml:space="preserve" {FONT}>',
    ]
    for n, row in enumerate(rows):
        at = 16.0
        for when, text in row:
            wait = f'<set attributeName="visibility" to="hidden" begin="0s" end="{when:.2f}s"/>'  # all is there without SMIL
            size = f'textLength="{len(text) * WIDE:.1f}" lengthAdjust="spacingAndGlyphs"'
            out.append(f'<text x="{at:.1f}" y="{52 + n * LINE}" {size}>{escape(text)}{wait}</text>')
            at += len(text) * WIDE
    return "\n".join([*out, "</g></svg>"]) + "\n"


FONT = 'font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,monospace" font-size="13"'


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("commands", nargs="+")
    ap.add_argument("--columns", type=int, default=100)
    ap.add_argument("--title", default="")
    ap.add_argument("--type", action="append", default=[])
    a = ap.parse_args()
    events, clock = [], 0.0
    for command in a.commands:
        events.append((clock, "$ "))
        for letter in command:
            clock += 0.03
            events.append((clock, letter))
        events.append((clock + 0.3, "\n"))
        found = record(command, a.columns, a.type)
        events += [(clock + 0.3 + when, text) for when, text in found]
        clock = events[-1][0] + 1.0
    with open(a.out, "w", encoding="utf-8") as f:
        f.write(svg(rows_of(events, a.columns), a.columns, a.title or a.commands[0]))


if __name__ == "__main__":
    main()
