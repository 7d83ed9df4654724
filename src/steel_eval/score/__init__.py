"""Answers of a checkpoint and what is counted from them."""
