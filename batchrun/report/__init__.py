"""The report of a result file, as JSON and as text, and the check that the file is complete.

Works from files alone and sends nothing; may import the stations.
"""
