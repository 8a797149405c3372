"""Texts of a folder that are at hand when a question is asked."""
