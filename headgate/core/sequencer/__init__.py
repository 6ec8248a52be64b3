"""The dispatcher's wing: from log records to numbers, and a shard's snapshots, claims and routes."""
