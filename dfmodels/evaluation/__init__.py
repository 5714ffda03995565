"""Judging scores of any origin: metrics."""
