"""Objects of a bucket (`s3://bucket/key`) in place of files: who asks for them, who holds them, and copies here."""
