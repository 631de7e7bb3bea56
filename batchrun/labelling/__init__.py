"""A face: a table to labels, which is `prepare`, `run` and `join` one after the other.

Here are the files of such a job and what is checked before it; nothing here prints, sends or knows an option.
"""
