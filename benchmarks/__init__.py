"""One script per performance claim: `python -m benchmarks` measures them side by side and writes `results.json`."""
