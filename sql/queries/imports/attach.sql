-- Opens another ledger beside this one, for reading.
-- Template: this_path stands for its path, quoted for SQL.
attach 'this_path' as other (read_only)  -- noqa: PRS
