"""Comparing two clusters, a backup and a cluster, or one cluster's copies; repair."""
