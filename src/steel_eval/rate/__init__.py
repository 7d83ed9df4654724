"""Rating the rows of a recipe by a model, for `[source.x] select`."""
