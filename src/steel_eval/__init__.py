"""Score checkpoints, compare experiments, detect contamination. Imports steel_data and steel_train."""
