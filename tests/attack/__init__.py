"""Attacks on a running Headgate, bounded and on loopback: `make attack` runs them for longer."""
