"""Questions that need a call or two, with tools and without: python tests/real/tools.py MODEL [-v] [--tokens 200]

20 of arithmetic, 20 of dates, 20 whose answer stands in a folder of small texts, which this makes. Each is asked alone, at
temperature 0, by the terminal's own loop, with the tools calculator, date, files, search, all allowed; and without any. A third
of them (every third) was held back while descriptions of tools were written. What is counted:

right: the answer, a number or a word, stands in the text. called: the first call is of a tool that can help. arguments: a call
gave back what the answer needs. told: of those with such a result, the text that was then written is right.
"""

import argparse
import re
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from twofile.errors import ModelError  # noqa: E402
from twofile.front.consent import Consent  # noqa: E402
from twofile.front.conversation import Conversation  # noqa: E402
from twofile.front.text import Screen  # noqa: E402
from twofile.front.usage import Usage  # noqa: E402
from twofile.model import Model  # noqa: E402
from twofile.tools.toolbox import built_in  # noqa: E402

day = date.fromisoformat
ARITHMETIC = [
    ("What is 347 times 89?", 347 * 89),
    ("What is 1234 * 4567?", 1234 * 4567),
    ("What is 98765 minus 43219?", 98765 - 43219),
    ("Compute 2 to the power of 40.", 2**40),
    ("What is 15% of 2480?", "372"),
    ("What is the square root of 7569?", 87),
    ("What is 1000001 divided by 101, rounded down?", 1000001 // 101),
    ("What is the remainder of 987654 divided by 37?", 987654 % 37),
    ("What is (128 + 364) * (57 - 19)?", (128 + 364) * (57 - 19)),
    ("A ticket costs 17.35. What do 24 tickets cost?", "416.4"),
    ("A room is 6.4 metres long and 4.75 metres wide. What is its area in square metres?", "30.4"),
    ("What is 12 factorial?", 479001600),
    ("What is the average of 312, 447, 589 and 604?", "488"),
    ("I buy 7 pens for 1.85 each and 3 books for 12.40 each. What do I pay?", "50.15"),
    ("What is the greatest common divisor of 4620 and 1071?", 21),
    ("How many seconds are in 17 days?", 17 * 86400),
    ("1500 people share 48750 litres of water equally. How many litres does each get?", "32.5"),
    ("A car uses 6.8 litres for 100 km. How many litres does it use for 850 km?", "57.8"),
    ("What is 3 ** 15 - 2 ** 20?", 3**15 - 2**20),
    ("What is the sum of 4567, 8912 and 30456?", 4567 + 8912 + 30456),
]
DATES = [
    ("On which weekday was 2001-09-11?", f"{day('2001-09-11'):%A}"),
    ("Which day of the week is 2031-03-14?", f"{day('2031-03-14'):%A}"),
    ("How many days are there from 2024-01-15 to 2024-09-03?", (day("2024-09-03") - day("2024-01-15")).days),
    ("How many days lie between 1999-12-31 and 2012-06-30?", (day("2012-06-30") - day("1999-12-31")).days),
    ("Which date is 100 days after 2023-11-20?", day("2023-11-20") + timedelta(100)),
    ("What is the date 250 days after 2025-02-01?", day("2025-02-01") + timedelta(250)),
    ("Which date was 90 days before 2024-03-01?", day("2024-03-01") - timedelta(90)),
    ("I was born on 1987-04-23. On which weekday was that?", f"{day('1987-04-23'):%A}"),
    ("How many weeks and days are there from 2024-05-06 to 2024-12-24? Tell me the days in all.", 232),
    ("A parcel was sent on 2024-02-20 and takes 12 days. On which date does it come?", "2024-03-03"),
    ("Which date is 18 months after 2022-10-31?", "2024-04-30"),
    ("A course begins on 2025-09-01 and lasts 45 days. On which date is it over?", day("2025-09-01") + timedelta(45)),
    ("On which weekday does 2028-02-29 fall?", f"{day('2028-02-29'):%A}"),
    ("How many days are there from 2023-07-04 to 2024-07-04?", 366),
    ("The contract of 2021-06-15 ends 1000 days later. On which date?", day("2021-06-15") + timedelta(1000)),
    ("Which weekday is it 60 days after 2024-06-10?", f"{day('2024-06-10') + timedelta(60):%A}"),
    ("Which day of the year, as a number, is 2024-10-05?", day("2024-10-05").timetuple().tm_yday),
    ("How old in days is somebody on 2024-01-01 who was born on 2000-01-01?", 8766),
    ("Which date is 6 months after 2025-08-15?", "2026-02-15"),
    ("On which weekday was 1969-07-20?", f"{day('1969-07-20'):%A}"),
]
TEXTS = {
    "harbour.txt": "The harbour of Vell\nThe lighthouse was first lit in 1874.\nIts lamp stands 31 metres above the sea.\n"
    "The ferry to Orn leaves at 7:40 and at 16:15.\n",
    "fruit.txt": "Prices on the market, a kilo\napples 3.50\npears 2.80\nplums 4.20\n",
    "bread.txt": "Rye bread\n500 g of rye flour\n350 g of water\n11 g of salt\nBake it for 55 minutes at 230 degrees.\n",
    "people/keller.txt": "Marta Keller\nbaker\ntelephone 555 0143\nborn 1969-05-17\n",
    "people/okoye.txt": "Samuel Okoye\nferryman\ntelephone 555 0177\nborn 1958-11-02\n",
    "museum.txt": "The museum is open from Tuesday to Sunday.\nA ticket costs 6 crowns.\nIts director is Ines Falk.\n",
    "bus.txt": "Line 12 goes from the station to the beach, every 20 minutes.\nThe last bus leaves at 22:50.\n",
    "birds.txt": "Birds counted in spring\nherons 14\nkingfishers 9\nospreys 3\n",
    "club.txt": "The chess club meets on Thursday at 19:30 in the library.\nThe fee is 45 crowns a year.\n",
}
LOOKED_UP = [  # the question, the answer, what a result must have for it
    ("My files say when the lighthouse of Vell was first lit. In which year?", 1874),
    ("Look into my files: how many metres above the sea is the lamp of the lighthouse?", 31),
    ("What does a kilo of plums cost, by my files?", "4.2"),
    ("How much salt is in the rye bread of my files, in grams?", 11),
    ("What is the telephone number of Marta Keller? It is in my files.", "555 0143"),
    ("When was Samuel Okoye born? My files say it.", "1958-11-02"),
    ("Who is the director of the museum, by my files?", "Ines Falk"),
    ("When does the last bus leave, by my files?", "22:50"),
    ("How many herons were counted in spring? See my files.", 14),
    ("On which day does the chess club meet? Look it up in my files.", "Thursday"),
    ("How many minutes does the rye bread bake, by bread.txt?", 55),
    ("Read bus.txt: which line goes to the beach?", 12),
    ("What is the job of Samuel Okoye? It is in the folder people.", "ferryman"),
    ("What is the fee of the chess club, in crowns? See club.txt.", 45),
    ("When does the afternoon ferry to Orn leave? See harbour.txt.", "16:15"),
    ("What do 7 kilos of apples cost, by the prices in fruit.txt?", "24.5", "3.5"),
    ("What do 13 tickets of the museum cost, by my files?", 78, "6 crowns"),
    ("How many birds were counted in all? See birds.txt.", 26, "kingfishers 9"),
    ("On which weekday was Marta Keller born? Her birthday is in my files.", "Saturday", "1969-05-17"),
    ("How many grams of flour, water and salt does the rye bread take in all? See bread.txt.", 861, "350"),
]
KINDS = (("arithmetic", ARITHMETIC, {"calculator"}), ("dates", DATES, {"date"}), ("looking up", LOOKED_UP, {"files", "search"}))


def stands_in(answer, text):
    """Whether a number or a word stands in a text, as itself."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    tail = r"0*(?![\d])(?!\.\d)" if "." in str(answer) else r"(?!\d)(?!\.\d*[1-9])(?!-\d)"
    return bool(re.search(rf"(?<![\d.]){re.escape(str(answer))}{tail}", text, re.IGNORECASE))


def ask(model, question, tools, tokens):
    """-> (the text that was written last, [(tool, arguments, what it returned)])"""
    args = SimpleNamespace(memory=None, seed=1, system=None, n_predict=tokens, options={"temperature": 0})
    calls, quiet = [], lambda text: None
    consent = Consent(quiet, None, free=True)
    usage = Usage(tools, consent, quiet, Screen(), quiet, model.n_ctx)
    run = usage.run
    usage.run = lambda call: calls.append((call.name, *(found := run(call)))) or found
    said = []
    talk = Conversation(model, args, said.append, usage)
    try:
        talk.message(question)
    except ModelError as e:
        said.append(f"[{e}]")
    last = talk.messages[-1]["content"] if talk.messages else "".join(said)
    return last, calls


def measured(model, tools, tokens, verbose, only):
    """Ask all -> {(kind, held back): Counter-like dict}"""
    rows = {}
    for kind, questions, helping in KINDS if only is None else [row for row in KINDS if row[0] == only]:
        for number, (question, answer, *needs) in enumerate(questions):
            row = rows.setdefault((kind, number % 3 == 2), dict.fromkeys("n alone right called arguments told".split(), 0))
            alone, _ = ask(model, question, [], tokens)
            text, calls = ask(model, question, tools, tokens)
            needed = needs[0] if needs else answer
            found = any(stands_in(needed, result) for _, _, result in calls)
            row["n"] += 1
            row["alone"] += stands_in(answer, alone)
            row["right"] += stands_in(answer, text)
            row["called"] += bool(calls) and calls[0][0] in helping
            row["arguments"] += found
            row["told"] += found and stands_in(answer, text)
            if verbose:
                print(f"{question} [{answer}]\n  alone: {alone!r}\n  with: {text!r}")
                print("".join(f"    {name} {given} -> {result!r}\n" for name, given, result in calls), end="", flush=True)
    return rows


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("model", type=Path)
    ap.add_argument("--tokens", type=int, default=200)
    ap.add_argument("-v", "--verbose", action="store_true", help="print each question, call and answer")
    ap.add_argument("--only", choices=[kind for kind, *_ in KINDS], help="of one kind")
    args = ap.parse_args()
    model = Model(args.model, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in TEXTS.items():
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
        rows = measured(model, built_in([f"calculator,date,files={folder},search"]), args.tokens, args.verbose, args.only)
    print("| | questions | right without | right with | called | result | told |\n|---|---:|---:|---:|---:|---:|---:|")
    sums = {"all": {}, "of these, held back": {}}
    for (kind, held), row in rows.items():
        for name in (kind, "all", *["of these, held back"] * held):
            into = sums.setdefault(name, {})
            for key, n in row.items():
                into[key] = into.get(key, 0) + n
    for name in [*(kind for kind, *_ in KINDS if kind in sums), "all", "of these, held back"]:
        row = sums[name]
        told = f"{row['told']} of {row['arguments']}"
        print(f"| {name} | {row['n']} | {row['alone']} | {row['right']} | {row['called']} | {row['arguments']} | {told} |")


if __name__ == "__main__":
    main()
