"""The recipe: one TOML file, its steps, and where its data lie."""

from steel_data.recipe.load import Recipe, load

__all__ = ["Recipe", "load"]
