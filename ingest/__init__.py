"""Files in: walk, read, embed, upsert, and account for every file."""
