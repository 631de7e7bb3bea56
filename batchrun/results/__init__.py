"""The result file and the run log: the journal of a job, locked, recovered, appended to.

A station: imports values and arithmetic, never another station.
"""
