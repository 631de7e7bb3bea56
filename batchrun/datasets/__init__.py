"""Tables in, requests out; results in, tables out.

Nothing here sends anything: all of it works on files that are there.
"""
