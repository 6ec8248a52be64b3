"""The HTTP side: takes publishes and control operations, hands them to the log, and asks the owners of shards."""
