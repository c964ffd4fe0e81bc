"""What the monitor is made of: a live network, moments over ranks, records, a schedule."""
