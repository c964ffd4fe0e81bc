"""Exact partitions of neighbourhoods: one each, or one shared and clipped to each."""
