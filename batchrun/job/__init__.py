"""One job: its options, its checks, its run and its summary.

Imports the engine and everything below it; `cli` and `api` import this package.
"""
