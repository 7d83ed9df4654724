"""Detectors of contamination, one a file, each a plain function of scores of items."""
