"""What batchrun costs, measured: `python -m tests.benchmarks [NAME…]`."""
