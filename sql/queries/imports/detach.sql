-- Closes the other ledger.
detach other  -- noqa: PRS
