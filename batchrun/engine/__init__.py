"""The way of a line: sent, judged, sent again, recorded, counted.

Imports the stations and what they import; does not read files or options itself.
"""
