"""`steel ui`: a local page, read-only, over a folder of mixtures, runs and scores."""
