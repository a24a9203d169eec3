"""CycleAlign: the method of the paper and the adapters to the models it needs.

`cyclealign.method` is the paper, pure. `cyclealign.models` talks to the heavy world. Neither knows
Prefect or DuckDB: those live in `flows`, `tasks` and `storage`.
"""
