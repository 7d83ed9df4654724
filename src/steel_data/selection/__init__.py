"""Choosing rows: every way of choosing is an order of a source's rows, of which a beginning is taken."""
