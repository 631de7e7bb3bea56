"""Checks whether an answer fits the JSON schema that its request asked for.

A station: imports values and arithmetic, never another station.
"""
