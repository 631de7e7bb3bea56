"""Arithmetic: histograms and intervals.

Pure; imports nothing of batchrun.
"""
