"""The report of runs and checkpoints: one page with curves, marks and what to doubt."""
