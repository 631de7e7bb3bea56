"""What is still to do, and what it will take.

Stands on files alone; may use the stations, sends nothing.
"""
