"""Preactivations at the vertices of neighbourhoods, in far fewer rows than there are vertices."""
