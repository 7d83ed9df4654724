"""A generated corpus of our own: every data set that recipes/ name, in its real layout, on an invented world."""

from steel_data.sample.write import write_sample

__all__ = ["write_sample"]
