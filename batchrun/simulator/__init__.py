"""A simulated gateway: it answers like the official API, fails like real gateways, and keeps a ledger of both.

Shares no code with the client, so that the two cannot share a mistake; imports only `errors` and `version`.
"""
