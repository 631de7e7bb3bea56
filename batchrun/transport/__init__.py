"""One attempt over HTTP: bytes out, a reply or a failure back, and what a failure means.

A station: imports values and arithmetic, never another station.
"""
