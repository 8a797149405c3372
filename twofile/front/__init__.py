"""The program: flags in, text out."""
