"""Filters: attributes computed in the map pass, verdicts in the plan pass."""
