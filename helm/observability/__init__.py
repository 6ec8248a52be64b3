"""Dashboards and alert rules of Headgate, written by `python -m helm.observability`; know no cluster and no server."""
