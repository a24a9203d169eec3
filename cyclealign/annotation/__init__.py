"""The page on which people compare two systems' responses to the same prompt, without knowing whose is whose.

`desk` holds the pairs and who has judged which, `pages` writes the HTML, `app` answers requests, `entrance`
decides who may send any. Nothing that leaves the server names a system: a pair has an opaque id, and what it
stands for stays in the desk. Knows no ledger: whoever starts the page (`tasks.evaluation.annotating`) gives it a store.
Paper: Section 4.2, Table 3.
"""
