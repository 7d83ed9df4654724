"""Questions to a model: benchmarks as tasks, the published prompts byte for byte, tokens, shared prefixes."""
