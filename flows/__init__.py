"""Prefect flows: what runs in which order, one file per deployment, and the command line."""
