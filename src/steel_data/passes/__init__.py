"""The three passes: map (records and attributes), plan (what becomes of each), gather (the mixture)."""
