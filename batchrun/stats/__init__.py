"""Arithmetic: histograms, intervals.

Pure; imports nothing of batchrun.
"""
