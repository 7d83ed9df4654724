"""Examples: rows of a mixture as token ids with the turns that are learnt."""
