"""The contamination laboratory: arms with injected items, trained and scored, and what they show."""
