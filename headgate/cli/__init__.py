"""The `headgate` command: thin, it reads flags, calls a role or a server, and prints."""
