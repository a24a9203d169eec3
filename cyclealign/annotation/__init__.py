"""The page on which people compare two systems' responses to the same prompt, without knowing whose is whose.

`pairs` holds the pairs and the verdicts on them, `page` shows them and answers requests, `entrance` decides who may
send any. Nothing that leaves the server names a system. Knows no ledger: `tasks.evaluation.annotating` starts the page
and gives it a store. Paper: Section 4.2, Table 3.
"""
