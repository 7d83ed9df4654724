"""Builders: one raw row in, records or the reason why not out."""
