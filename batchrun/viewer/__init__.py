"""The local page on which results are looked at and searched: an index, views of it, a server for one person.

Nothing here sends a request to a gateway, and nothing is read but the files that were named and those beside them.
"""
