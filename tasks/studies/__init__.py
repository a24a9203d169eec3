"""Runs beside a run: refolds, baselines, grids."""
