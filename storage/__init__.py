"""The ledger and everything else that is kept: the only package that speaks DuckDB."""
