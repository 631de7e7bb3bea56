"""One job: what it is told, what it checks, how it runs, what it amounts to.

Imports the engine and all below; the faces import it.
"""
