"""Tokens into money: prices, bounds, the bill.

A station: imports values and arithmetic, never another station.
"""
