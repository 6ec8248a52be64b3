"""The adapters of the log port: memory, sqlite and kafka; they know records and offsets, never topics or messages."""
