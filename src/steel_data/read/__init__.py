"""Raw rows of files: jsonl, JSON arrays, csv and parquet, in chunks that a worker can seek to; hubs."""
