"""The command twofile, around the program: commands, help, completions; not bound into run.py."""
