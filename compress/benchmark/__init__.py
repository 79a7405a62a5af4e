"""Accuracy with intervals, latency, statistics."""
