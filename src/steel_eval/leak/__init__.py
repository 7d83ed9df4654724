"""Detectors of contamination, one a file, each a plain function; `run.py` is the command that puts them in a table."""
