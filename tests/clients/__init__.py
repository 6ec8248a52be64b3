"""The clients that applications import, against real servers under faults."""
