"""One job on many machines: the plan of its shards, their runs on a Ray cluster, the limits that they share.

May import everything. Ray is imported late, and here alone.
"""
