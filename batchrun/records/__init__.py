"""Values: what a request, a result and their parts are, parsed and encoded.

No I/O, no clock; imports `stats`, `errors` and nothing else of batchrun.
"""
