"""Two runs, or groups of runs: is the difference real?"""
