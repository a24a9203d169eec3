"""The command line, and the local Prefect server behind `make up`."""
