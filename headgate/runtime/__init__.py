"""Adapters between the pure core and the world: logs, links, tokens, metrics, settings; knows no single service."""
