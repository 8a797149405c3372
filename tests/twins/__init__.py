"""Slow twins, a file for a kind: in float64, by docs/format.md alone. They share no code with twofile/."""
