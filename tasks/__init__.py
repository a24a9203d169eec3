"""Prefect tasks: the boxes of the paper's Figure 2. A body is a few calls into `storage` and `cyclealign`."""
