"""The report of a run: figures, tables, plots, one HTML page, Markdown, terminal, artifacts.

`figures` holds the values (filled by `storage.figures` from the ledger). `tables`, `run_tables`, `plots` and
`notes` turn them into what is shown, `content` puts it in order; `files` writes it, `terminal` and
`artifacts` serve the command line and the UI. Whatever a model or a data set wrote passes through
`untrusted` on its way out. Knows neither DuckDB nor Prefect.
"""
