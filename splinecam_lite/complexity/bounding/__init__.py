"""Bounds on what crosses in the full input dimension: rays from below, linear relaxations from above."""
