"""Ratios against references and limits: `python -m benchmarks NAME`, from a checkout."""
