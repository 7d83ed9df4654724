"""Benchmarks: their items in published layouts, the index that finds them in text, known test splits."""
