"""The detectors' error rates: measured on injected runs, shipped, and matched to a model's regime."""
