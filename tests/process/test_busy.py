"""Beside programs that keep the cores busy, and with nothing to do."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from busy import Loops, rows, svg, text
from helpers.process import call
from helpers.terminal import Terminal
from twofile.machine import processors


def speed(model, threads):
    done = call("--bench", model, "-p", "0", "-n", "180", "-r", "9", "-o", "jsonl", "-t", threads)
    return json.loads(done.stdout)["avg_ts"]


@pytest.mark.parametrize("loops", [1, 2])
def test_busy_loops_cost_no_more_than_they_would_alone(models, loops):
    """All threads are hardly slower than one: the best of several tries, since others are at work too."""
    ratios = []
    with Loops(loops * processors() // 2 or 1):
        while len(ratios) < 6 and not any(ratio >= 0.8 for ratio in ratios):
            ratios.append(speed(models["q8_0"], "auto") / speed(models["q8_0"], "1"))
    assert max(ratios) >= 0.8, ratios


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_conversation_that_waits_takes_no_time(talker):
    terminal = Terminal(talker, "-s", "7", "-t", "2")
    terminal.until(r"> $")
    terminal.say("hen")
    time.sleep(0.3)

    def spent():
        words = Path(f"/proc/{terminal.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    before = spent()
    time.sleep(1)
    assert spent() - before <= 0.03
    os.write(terminal.fd, b"/exit\n")
    assert terminal.leave() == 0


def test_given_up_threads_are_told(models):
    """Once, and only to those who ask: how often, and how many play now."""
    with Loops(processors()):
        told = call(models["q8_0"], "-p", "7 8 9", "-n", "100", "-v", "-s", "1").stderr.decode()
        silent = call(models["q8_0"], "-p", "7 8 9", "-n", "100", "-s", "1").stderr.decode()
    assert told.count("threads: given up") <= 1 and "given up" not in silent


def test_the_table_and_the_picture_are_of_all_runs():
    found = {"a, 0": [300.0, 310.0, 290.0], "a, 2": [70.0], "b, 0": [100.0], "two at once": [150.0, 160.0]}
    assert rows(found)[0] == {"a": {0: [300.0, 310.0, 290.0], 2: [70.0]}, "b": {0: [100.0]}}
    assert "| 0 | 300 (290) | 100 (100) |" in text(found) and "two at once: 155 (150)" in text(found)
    assert svg(found).count("<circle") == 5 and svg(found).count("<polyline") == 2
