"""How a measurement of speed is told: a table, csv or JSON."""

import sys

from ..errors import say

COLUMNS = {  # and how they stand in it
    "model": "---",
    "size": "---:",
    "params": "---:",
    "backend": "---",
    "threads": "---:",
    "type_k": "---:",
    "type_v": "---:",
    "test": "---",
    "t/s": "---:",
}
TYPED = {"type_k", "type_v"}  # those that are there if the type of the cache was asked for


class Table:
    """Prints rows (dicts) as they come, in a form: md, csv or jsonl; json, at the end().
    typed: whether the type of the cache has columns of a md table."""

    def __init__(self, form, typed):
        self.form, self.rows = form, []
        self.columns = [name for name in COLUMNS if typed or name not in TYPED]

    def show(self, row):
        """One row on stdout, and its background on stderr."""
        first = not self.rows
        self.rows.append(row)
        if self.form == "md":
            if first:
                print("| " + " | ".join(self.columns) + " |")
                print("| " + " | ".join(COLUMNS[name] for name in self.columns) + " |")
            found = cells(row)
            print("| " + " | ".join(str(found[name]) for name in self.columns) + " |")
        elif self.form == "csv":
            if first:
                print(",".join(row))
            print(",".join('"' + str(v).replace('"', '""') + '"' for v in row.values()))
        elif self.form == "jsonl":
            print(as_json(row))
        sys.stdout.flush()
        say(background(row))

    def end(self):
        if self.form == "json":
            print(as_json(self.rows, indent=2))


def as_json(value, **how):
    import json

    return json.dumps(value, **how)


def cells(row):
    """What a row has to say, by COLUMNS."""
    size, params = row["model_size"] / 2**20, row["model_n_params"] / 1e6
    test = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
    test += f" @ d{row['n_depth']}" if row["n_depth"] else ""
    values = [
        row["model_type"],
        f"{size:.2f} MiB",
        f"{params:.2f} M",
        row["backends"],
        row["n_threads"],
        row["type_k"],
        row["type_v"],
        test,
        f"{row['avg_ts']:.2f} ± {row['stddev_ts']:.2f}",
    ]
    return dict(zip(COLUMNS, values))


def background(row):
    """How near a row comes to the machine's ceilings, and what it took to get there."""
    if row["n_gen"]:
        used = row["avg_ts"] * row["bytes_per_token"] / 1e9
        types = row["bytes_by_type"]
        each = ", ".join(f"{name} {n / 1e6:.1f}" for name, n in types.items())
        work = f"{row['bytes_per_token'] / 1e6:.1f} MB a token"
        work += f" ({each})" if len(types) > 1 else ""
        work += f", {used:.1f} GB/s, "
        work += f"{used / row['read_gbps']:.0%} of this machine's {row['read_gbps']:.1f}"
    else:
        work = f"{row['gops']:.0f} GOP/s, {row['gops'] / row['tile_gops']:.0%} of the tile's "
        work += f"{row['tile_gops']:.0f}"
    times = f"import {row['import_s']:.2f} s, load {row['load_s']:.2f} s"
    times += f", compile {row['compile_s']:.1f} s"
    return f"{work}; {times}; peak {row['peak_rss'] / 2**20:.0f} MiB; {row['cpu_info']}"
