"""From the log to numbers: what one record does to a shard, its snapshots and its routes; the dispatcher's wing."""
