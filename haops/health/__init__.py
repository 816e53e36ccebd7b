"""Detectors: what heartbeats, time-outs and copies tell of a node, each with its reason.

Pure state machines that are told the time.  Only `trace.py` touches files.
"""
