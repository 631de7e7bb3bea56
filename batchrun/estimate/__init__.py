"""The estimate: what is still to do, and what it will take.

Works from files alone and sends nothing; may import the stations.
"""
