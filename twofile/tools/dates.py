"""A calendar: weekdays, days between dates, dates so many days later."""

import calendar
import datetime
import re

from .tool import Tool, ToolFailed, an_object, shown_value

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def read_date(text):
    """ "2024-02-29", or "today", in the calendar of today for all years. Raises ToolFailed."""
    text = text.strip()
    if text.lower() == "today":
        return datetime.date.today()
    try:
        if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return datetime.date.fromisoformat(text)
    except ValueError as e:
        raise ToolFailed(f"{shown_value(text)}: {e}; expected a date that exists") from None
    raise ToolFailed(f"{shown_value(text)}, expected YYYY-MM-DD, as 2024-02-29, or today")


def with_day(date):
    return f"{date} ({DAYS[date.weekday()]})"


def later(date, months, days):
    """So many months later, at the end of the month if it is shorter, then so many days."""
    try:
        months += 12 * date.year + date.month - 1
        year, month = months // 12, months % 12 + 1
        day = min(date.day, calendar.monthrange(year, month)[1])
        return datetime.date(year, month, day) + datetime.timedelta(days)
    except (ValueError, OverflowError, IndexError):
        raise ToolFailed("that is beyond the years 1 to 9999; expected less") from None


def dated(given):
    """What the tool says of a date, a line for each thing asked."""
    date = read_date(given["date"])
    nth, year = date.timetuple().tm_yday, 366 if calendar.isleap(date.year) else 365
    found = [f"{date} is a {DAYS[date.weekday()]}, day {nth} of the {year} days of its year"]
    if "until" in given:
        until = read_date(given["until"])
        days = (until - date).days
        found.append(f"from {with_day(date)} to {with_day(until)}: {days} days")
        if abs(days) >= 7:
            weeks, rest = divmod(abs(days), 7)
            found[-1] += f", which is {'minus ' * (days < 0)}{weeks} weeks and {rest} days"
    months, days = given.get("plus_months", 0), given.get("plus_days", 0)
    if months or days:
        moves = [f"{n:+} {unit}" for n, unit in ((months, "months"), (days, "days")) if n]
        found.append(f"{date} {' '.join(moves)} is {with_day(later(date, months, days))}")
    return "\n".join(found)


def date_tool():
    """The tool."""
    whole_number = {"type": "integer", "minimum": -4_000_000, "maximum": 4_000_000}
    return Tool(
        "date",
        "Tell the weekday of a date, the days between two dates, or the date so many days later.",
        an_object(
            date={"type": "string", "description": "YYYY-MM-DD, or today"},
            until={
                "type": "string",
                "description": "optional: a second date; the days from the first to it are told",
            },
            plus_days={**whole_number, "description": "optional: days to add; negative: earlier"},
            plus_months={**whole_number, "description": "optional: months to add"},
        ),
        dated,
        harmless=True,
    )
