"""Logs and links with faults, for tests, the simulation and benchmarks; no role uses them."""
