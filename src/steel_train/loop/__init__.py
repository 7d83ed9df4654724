"""The training loop: TRL set up, run, interrupted, resumed and recorded."""
