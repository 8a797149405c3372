"""The calendar, beside what datetime says."""

import datetime
import json
import random
import re

import pytest

from twofile.tools.dates import date_tool
from twofile.tools.tool import result_of


def asked(**given):
    return result_of(date_tool(), json.dumps(given))


def test_a_date():
    assert asked(date="2024-02-29") == "2024-02-29 is a Thursday, day 60 of the 366 days of its year"
    today = datetime.date.today()
    assert asked(date="today").startswith(str(today)) or asked(date="today").startswith(str(today + datetime.timedelta(1)))


def test_days_between_and_later():
    rng = random.Random(3)
    for _ in range(200):
        a, b = (datetime.date.fromordinal(rng.randrange(1, 3_600_000)) for _ in "ab")
        assert f": {(b - a).days} days" in asked(date=str(a), until=str(b))
        n = rng.randrange(-1000, 1000)
        if n and a.year > 10 and a.year < 9990:
            then = a + datetime.timedelta(n)
            assert f"{a} {n:+} days is {then} ({then:%A})" in asked(date=str(a), plus_days=n)
    assert "is 2024-02-29" in asked(date="2024-01-31", plus_months=1)
    assert "is 2023-12-31" in asked(date="2024-01-31", plus_months=-1)
    assert "minus 4 weeks and 1 days" in asked(date="2024-03-01", until="2024-02-01")


@pytest.mark.parametrize(
    "given, says",
    [
        ({"date": "2023-02-29"}, "a date that exists"),
        ({"date": "2023-13-01"}, "a date that exists"),
        ({"date": "2024-W01-1"}, "YYYY-MM-DD"),
        ({"date": "1.2.2024"}, "YYYY-MM-DD"),
        ({"date": "\u0662024-01-01"}, "YYYY-MM-DD"),
        ({"date": ""}, "YYYY-MM-DD"),
        ({"date": "9999-12-31", "plus_days": 1}, "beyond the years"),
        ({"date": "0001-01-01", "plus_months": -4_000_000}, "beyond the years"),
        ({"date": "0001-01-01", "plus_months": 4_000_001}, "expected -4000000 to 4000000"),
        ({"date": "2024-01-01", "plus_days": 10**30}, "expected"),
        ({"date": "2024-01-01", "plus_days": True}, "expected integer"),
        ({"date": "2024-01-01", "plus_days": 1.5}, "expected integer"),
        ({"date": 3}, "expected string"),
        ({}, "date is missing"),
        ({"date": "2024-01-01", "x": 1}, "x is unknown"),
    ],
)
def test_what_is_no_date_is_told(given, says):
    said = asked(**given)
    assert re.match("error: ", said) and says in said
