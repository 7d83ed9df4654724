"""One row: the record of messages, its text, its tokens, the narrow table on disk, how it is shown."""
