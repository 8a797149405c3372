"""All that is compiled; each does its thread's share of one record for all tokens of a pass."""
