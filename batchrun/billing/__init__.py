"""From tokens to money: prices, bounds and the bill.

A station: imports values and arithmetic, never another station.
"""
