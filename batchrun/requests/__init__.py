"""The request file: reading it, checking it, selecting lines from it.

A station: imports values and arithmetic, never another station.
"""
