"""The command line: one file a command, options in, exit codes out.

A face: imports everything; the only place that prints or reads the environment.
"""
