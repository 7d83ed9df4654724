"""Model architectures of our own. `import steel_train.models.steel` registers Steel with the Auto classes."""
