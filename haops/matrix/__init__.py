"""The matrix: replication modes against faults, each cell measured on real servers."""
