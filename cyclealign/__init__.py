"""CycleAlign: the method of the paper and the adapters to the models it needs.

`cyclealign.method` is the paper, pure; the other rooms hold the adapters to the heavy world. None of them knows
Prefect or DuckDB: those live in `flows`, `tasks` and `storage`.
"""
