"""What all tests share: silence after the last of them."""

import atexit
import os

from hypothesis import settings

settings.register_profile("without deadlines", deadline=None)  # no test asserts a time
settings.load_profile("without deadlines")

# as every command of ours sets it (`cli/local.py`): on a busy machine a server takes longer than Prefect waits
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

# DuckDB's binding lists its types as leaked when the interpreter ends; the tests' own last line comes before
atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))
