"""Measure diagnoses: metrics with intervals, one row a system, on the same cases."""
