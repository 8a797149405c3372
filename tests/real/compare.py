"""Real vocabularies and chat templates against the reference libraries: python tests/real/compare.py [--write] [NAME ...]

Files are fetched by the name of their package into TWOFILE_REAL, or a temporary folder; what cannot be fetched, or compared
for want of a library, is skipped in words. Exit 1 if anything differs that is not explained in expected.py.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(HERE)]

from cases import VOCABULARIES, templates  # noqa: E402
from chats import compare  # noqa: E402
from expected import EXPLAINED, NO_CHAT, NO_STOP, NO_SYSTEM, REFUSED  # noqa: E402
from fetch import cache  # noqa: E402
from strings import strings  # noqa: E402
from table import write  # noqa: E402

from twofile.tokenizer.tokenizer import Tokenizer  # noqa: E402


def export(source, out):
    """Our exporter on a source of a tokenizer -> (exit code, what it said)."""
    command = [sys.executable, str(ROOT / "export.py"), str(source), "--tokenizer-only", "-o", str(out), "--overwrite"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stderr.strip()


def shrunk(text, differs):
    """A short text that still differs."""
    size = max(1, len(text) // 2)
    while size:
        at = 0
        while at < len(text):
            less = text[:at] + text[at + size :]
            at, text = (at, less) if differs(less) else (at + size, text)
        size //= 2
    return text


def encoded(ours, text):
    """Our ids of a text; an error's name where there are none."""
    try:
        return ours.encode(text, add_bos=False)
    except Exception as e:
        return [f"{type(e).__name__}: {e}"]


def explanation(case, oracle, text):
    """Why a text may differ from a reference, or None."""
    return next((why for *of, rule, why in EXPLAINED if of == [case, oracle] and rule(text)), None)


def differing(case, ours, oracle, texts, found):
    """-> (how many texts differ and are explained by whom, how many are not); the others go to found, made short."""
    wants, explained, left = oracle.encode(texts), Counter(), []
    for text, want in zip(texts, wants):
        got = encoded(ours, text)
        if got != want:
            why = explanation(case, oracle.name, text)
            explained.update([why] if why else [])
            left += [] if why else [text]
    seen = set()
    for text in left[:24]:
        short = shrunk(text, lambda t: encoded(ours, t) != oracle.encode([t])[0])
        if short not in seen and len(seen) < 6:
            found.append((len(left), case, oracle.name, ascii(short), encoded(ours, short), oracle.encode([short])[0]))
        seen.add(short)
    return explained, len(left)


def vocabulary(case, count, found, work):
    """One row of the table of vocabularies."""
    row = dict(name=case.name, of=case.of, chats=None)
    source, why = case.source(work)
    if source is None:
        return row | dict(said=f"skipped: {why}")
    code, said = export(source, work / "t.bin")
    last = said.splitlines()[-1] if said else ""
    if code:
        wanted = REFUSED.get(case.name)
        if not wanted or wanted[0] not in said:
            found.append((count, case.name, "export", "the whole file", last[-300:], wanted[0] if wanted else "exported"))
        return row | dict(said=f"refused: {wanted[1]}" if wanted and wanted[0] in said else f"refused, wrongly: {last[-120:]}")
    if case.name in REFUSED:
        found.append((count, case.name, "export", "the whole file", "exported", f"refused: {REFUSED[case.name][1]}"))
    ours = Tokenizer(work / "t.bin")
    apart = {i for i, kind in enumerate(ours.types) if kind & 15 == 2}
    oracles, missing = case.oracles(source, apart)
    row |= dict(said="exported", stops=sorted(ours.name(i) for i in ours.stops), references=[], missing=missing)
    begin, wants = ours.encode("a")[: -len(ours.encode("a", add_bos=False))], case.begin(source, oracles)
    row |= dict(begin=" ".join(map(ours.name, begin)))
    if wants is not None and begin != wants:
        found.append((count, case.name, "begin", "what every text begins with", row["begin"], " ".join(map(ours.name, wants))))
    if NO_STOP.get(case.name) in row["stops"]:
        found.append((count, case.name, "stops", NO_STOP[case.name], row["stops"], "ends only a part of an answer"))
    rng = random.Random(case.name)
    pieces = next((o.pieces for o in oracles if hasattr(o, "pieces")), [])
    marks = next((o.marks for o in oracles if hasattr(o, "marks")), [])
    texts = strings(rng, count, [p for p in pieces if p][:300000], [m for m in marks if m])
    for oracle in oracles:
        explained, left = differing(case.name, ours, oracle, texts, found)
        row["references"].append((oracle.name, len(texts), explained, left))
    for text, want in case.vectors(source):
        if encoded(ours, text) != want and not explanation(case.name, "llama.cpp", text):
            found.append((1, case.name, ".inp/.out", ascii(text), encoded(ours, text), want))
    if template := case.template(source):
        oracle = next((o for o in oracles if hasattr(o, "chats")), None)
        row["chats"] = chats(case.name, said, ours, template, oracle, rng, found)
    return row


def chats(name, said, ours, template, oracle, rng, found):
    """The cell of a template: what the comparison of chats says."""
    if ours.chat is None:
        why = next((line for line in said.splitlines() if "no chat" in line), "no word of it")
        if "no chat" in why and template.render([{"role": "user", "content": "x"}]) is None:
            return "none: the template refuses a conversation without tools, and export says so"
        if name not in NO_CHAT or NO_CHAT[name][0] not in why:
            found.append((200, name, "template", "every chat", why[-200:], "a chat"))
            return f"none, wrongly: {why[-120:]}"
        return f"none: {NO_CHAT[name][1]}"
    if oracle is None:
        return "skipped: no reference encodes chats"
    rows = compare(ours, template, oracle, rng, 100, "rewrites answers" in said)
    cells = []
    for key in ("plain", "system"):
        row = rows[key]
        if row["differ"]:
            found.append((len(row["differ"]), name, f"chats, {key}", *shortest(row["differ"], ours)))
        if row["words"] and not (key == "system" and name in NO_SYSTEM):
            found.append((row["words"], name, f"chats, {key}", "refused", "in words", "the template takes it"))
        refused = "" if not row["words"] else f", {row['words']} refused"
        refused = ", all refused" if row["both"] + row["words"] == row["count"] else refused
        refused += f": {NO_SYSTEM.get(name)}" * bool(row["words"] and name in NO_SYSTEM and key == "system")
        refused += f", and {row['spelt']} where a content spells a mark, which stays text" * bool(row["spelt"])
        refused += f", and {row['stay']} where thoughts stay, as export says" * bool(row["stay"])
        cells.append(f"{'with' if key == 'system' else 'without'} system {len(row['differ'])}/{row['count']}{refused}")
    if rows["leaks"]:
        leak = f"{rows['leaks']} of 40 get control tokens"
        found.append((rows["leaks"], name, "chats", "contents that spell marks", leak, "none"))
    return "; ".join(cells)


def shortest(differ, ours):
    """The shortest conversation that differs -> (it, ours, the reference's) as text."""
    messages, text, got, want = min(differ, key=lambda row: len(row[1] or "") + 40 * len(row[0]))
    at = next((i for i, (a, b) in enumerate(zip(got, want or [])) if a != b), min(len(got), len(want or [])))
    show = lambda ids: f"…{[ours.name(i) for i in (ids or [])[max(0, at - 4) : at + 6]]}"
    brief = [(m["role"][0], m["content"]) for m in messages]
    return ascii(brief)[:400], ascii(show(got)), ascii(show(want)) if want is not None else "refused"


def worded(found):
    """What differs, the most first, as a list in Markdown."""
    rows = sorted(found, key=lambda row: -row[0])
    form = "- {} · **{}** · {} · `{}`\n  ours `{}`\n  reference `{}`\n".format
    return "".join(form(*row) for row in rows)


def keep(rows, found, findings):
    """Add what is known so far to what other runs left, and write it: a run takes long. -> all rows."""
    path = cache() / "rows.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known = {kind: {**known.get(kind, {}), **some} for kind, some in rows.items()}
    path.write_text(json.dumps(known))
    if findings:
        Path(findings).write_text(worded(found))
    return known


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("names", nargs="*", help="of vocabularies or templates; default: all")
    ap.add_argument("--write", action="store_true", help="the section of docs/families.md")
    ap.add_argument("--count", type=int, default=3000, help="strings for each vocabulary")
    ap.add_argument("--findings", metavar="FILE", help="where what differs is written")
    args = ap.parse_args()
    rows = {"vocabularies": {}, "templates": {}}
    found, asked = [], lambda case: not args.names or case.name in args.names
    others = {*args.names} - {case.name for case in VOCABULARIES}
    for kind, cases in (("vocabularies", VOCABULARIES), ("templates", templates() if others or not args.names else [])):
        for case in filter(asked, cases):
            with tempfile.TemporaryDirectory() as work:
                count = args.count if kind == "vocabularies" else 200
                try:
                    row = vocabulary(case, count, found, Path(work))
                except Exception as e:
                    row = dict(name=case.name, of=case.of, said=f"failed: {type(e).__name__}: {e}"[:200], chats=None)
                    found.append((count, case.name, "script", type(e).__name__, str(e)[:300], "no error"))
            rows[kind][row["name"]] = row
            keep(rows, found, args.findings)
            print(json.dumps(row, default=str, ensure_ascii=False), flush=True)
    print(worded(found))
    if args.write:
        write(ROOT / "docs" / "families.md", keep(rows, found, args.findings), args.count)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
