"""Train on a mixture: TRL, with our kernels and a pre-flight. Imports steel_data, never steel_eval."""
