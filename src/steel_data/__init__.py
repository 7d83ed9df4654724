"""Make training mixtures from recipes, and account for every row. Never imports torch."""

__version__ = "0.1.0"
