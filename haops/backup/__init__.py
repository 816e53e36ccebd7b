"""Backups: repository, catalogue, making, verifying, restoring, retention."""
