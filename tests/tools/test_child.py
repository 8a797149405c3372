"""A child process: how its end is told."""

from twofile.tools.child import output_told


def test_signals_without_a_name_are_numbers():
    assert output_told(b"x\n", -40, "") == "x\n(ended by signal 40)"
    assert output_told(b"", -9, "") == "(ended by SIGKILL)"
