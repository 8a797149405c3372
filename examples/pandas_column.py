"""
A column of a table, answered: a CSV in, the same with one more column out.

    python examples/pandas_column.py names.csv stories.csv --column name --ask "Tell me a story about {}."

Rows are written together, 8 at once; a row's text depends on the seed and its number alone. Where there is no table but a line
for each question, the shell does it, a line of JSON for each answer:

    jq -R . asked.txt | python run.py model.bin --batch - -n 40 -s 1 -q | jq .text
"""

import argparse
import os
import sys
from pathlib import Path

try:
    import pandas
except ImportError:
    sys.exit("pandas_column.py: needs pandas, which is not installed: pip install pandas")

FOLDER = Path(os.environ.get("TWOFILE", Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(FOLDER))

from run import Model, ModelError  # noqa: E402


def answered(model, column, ask="{}", **options):
    """A Series of texts -> that of the model's answers, with the same index; a missing one stays missing."""
    there = column.dropna()
    asked = [[{"role": "user", "content": ask.replace("{}", text)}] for text in there]
    texts = model.batch([model.encode_chat(messages) for messages in asked], **options)
    return pandas.Series(texts, index=there.index, dtype=column.dtype).reindex(column.index)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("table", help="a CSV with a first line of names")
    ap.add_argument("output", help="a CSV")
    ap.add_argument("--column", default="prompt", help="what is asked (default prompt)")
    ap.add_argument("--into", default="text", help="the new column (default text)")
    ap.add_argument("--ask", default="{}", help="the prompt, in which {} is what the column says")
    ap.add_argument("--max-tokens", type=int, default=40)
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()

    # as it stands: 007 is no number, and a name may be NA
    table = pandas.read_csv(a.table, dtype=str, keep_default_na=False, na_values=[""])
    if a.column not in table or a.into in table:
        sys.exit(f"pandas_column.py: {a.table} has the columns {', '.join(table)}: choose --column of them, --into another")
    with Model(FOLDER / "model.bin", verbose=False) as model:
        table[a.into] = answered(model, table[a.column], a.ask, max_tokens=a.max_tokens, seed=a.seed)
    table.to_csv(a.output + ".part", index=False)
    os.replace(a.output + ".part", a.output)


if __name__ == "__main__":
    try:
        main()
    except ModelError as e:
        sys.exit(f"pandas_column.py: {e}")
