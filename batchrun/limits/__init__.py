"""How many requests may be in flight, and how many a minute: found out, or promised.

A station: imports values and arithmetic, never another station.
"""
