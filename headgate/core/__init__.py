"""Pure state machines of Headgate; nothing here knows a clock, randomness, a log line, a socket or a task."""
