"""The language model head fused with its loss: logits of all rows are never in memory at once."""
