"""What files are that have no recipe yet: layouts, columns, what a build would keep and lose, and the recipe for it."""
