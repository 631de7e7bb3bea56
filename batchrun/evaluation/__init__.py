"""Figures from finished results: answers held against gold, two result files held against one another.

Reads files and computes; sends nothing and prints nothing.
"""
