"""Drills: a playbook's load and faults on a real cluster, and what they cost."""
