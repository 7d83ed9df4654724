"""What a mixture holds of a benchmark, and the label that scores carry for it."""
