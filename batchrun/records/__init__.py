"""Values: requests, results and their parts, with parsing and encoding.

No I/O, no clock; imports `stats`, `errors` and nothing else of batchrun.
"""
