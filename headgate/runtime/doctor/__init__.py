"""The checks of `headgate doctor`: settings, this machine, Kafka and links, each with what to do about it."""
