"""The dispatcher: owns shards, numbers, deduplicates, routes and answers; knows no client connection."""
