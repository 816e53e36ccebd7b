"""Docker: engine, compose projects, images, networks, ports, labels, garbage collection.

Nothing outside this room knows about containers.
"""
