"""The dispatcher: owns shards, gives messages their numbers, removes duplicates, routes and answers requests."""
