"""Faults of the questions themselves: keys that are wrong, options that are broken, questions that stand twice."""
