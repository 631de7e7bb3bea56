"""Tests of pages: what is in them, and how a browser shows them."""
