"""The summary of a result file, as JSON and as text, and the check that it is complete.

Stands on files alone; may use the stations, sends nothing.
"""
