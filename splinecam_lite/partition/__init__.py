"""The result and what it tells: `partition.partition` computes a `result.Partition`."""
