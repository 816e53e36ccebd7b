"""The domain's nouns: what a cluster is, what it looked like at one moment, and where that is kept.

This room imports nothing of the other rooms.
"""
