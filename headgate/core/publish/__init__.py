"""From a request's body to a record: checks, repeats, rates and the circuit; ingest's wing."""
