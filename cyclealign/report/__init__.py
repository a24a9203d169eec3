"""Exhibits and reports: rows of SQL become blocks (tables, plots, notes), and these become text, pages, files."""
