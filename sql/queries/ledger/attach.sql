-- Opens a ledger beside this database, for reading.
-- Template: this_path stands for its path, quoted for SQL, this_name for what it is called.
attach 'this_path' as this_name (read_only)  -- noqa: PRS
