"""Generates the reference blocks of the documentation from the code: `make docs`."""
