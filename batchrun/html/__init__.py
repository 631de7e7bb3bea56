"""Pages for a browser: the report as one file, and what all pages share (policy, style, charts, cleaning).

Reads finished files and writes HTML; opens no network, and draws no figure that `report` does not have.
"""
