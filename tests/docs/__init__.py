"""The README and the manual, held to the program: by asking its code, never by searching its sources.

`python -m tests.docs` writes the generated parts of the manual anew.
`python -m tests.docs benchmarks FILE` writes the tables of benchmarks.md from the JSON of `python -m tests.benchmarks`.
"""
