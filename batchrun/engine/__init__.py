"""The way of a line: sent, judged, sent again, recorded, counted.

Imports the stations and what they stand on; nothing of it reads files or options.
"""
