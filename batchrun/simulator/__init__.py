"""A simulated gateway that answers like the official API, fails as real ones fail, and keeps account of it.

Shares nothing with the client, so that the two cannot share a mistake; imports `errors` and `version` at most.
"""
