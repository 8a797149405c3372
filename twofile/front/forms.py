"""The form that texts are to have, as a command line says it."""

from ..errors import ModelError
from .mode import Flag
from .text import as_text, read_text

JSON_SCHEMA = Flag(
    "--json-schema",
    some=True,
    metavar="FILE",
    help="write JSON that this schema allows, a file or text; '{}' for any object",
)
REGEX = Flag(
    "--regex", some=True, dashed=True, metavar="TEXT", help="write what this expression matches"
)
GRAMMAR = Flag(
    "--grammar", some=True, metavar="FILE", help="write what this grammar, Lark or GBNF, allows"
)
FORM_FLAGS = JSON_SCHEMA, REGEX, GRAMMAR


def check_form(args):
    """At most one form is asked for. Raises ModelError."""
    given = [flag.long for flag in FORM_FLAGS if args[flag] is not None]
    if len(given) > 1:
        raise ModelError(f"{given[0]} and {given[1]}: expected one form; leave one out")


def read_form(args):
    """The form that is asked for, as an option of a Writer -> {its name: its text}"""
    schema, regex, grammar = (args[flag] for flag in FORM_FLAGS)
    if schema is not None:
        inline = schema.lstrip().startswith("{")
        return {"schema": schema if inline else as_text(read_text(schema), "the schema")}
    if grammar is not None:
        return {"grammar": as_text(read_text(grammar), "the grammar")}
    return {} if regex is None else {"regex": regex}
