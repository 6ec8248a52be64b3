"""What ingest and the gateway share of HTTP: credentials, origins, and the one problem renderer; knows no handler."""
