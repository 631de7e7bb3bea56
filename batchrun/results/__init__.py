"""The result file and the run log: locking, recovering and appending to the journal of a job.

A station: imports values and arithmetic, never another station.
"""
