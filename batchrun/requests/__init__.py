"""The request file: read, checked, selected from.

A station: imports values and arithmetic, never another station.
"""
