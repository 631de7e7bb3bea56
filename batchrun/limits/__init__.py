"""When the next request may go: how many in flight, how many a minute, for how much money.

A station: imports values and arithmetic, never another station.
"""
