"""Implementations of the ports: one file or folder for each.  Adapters do not import each other."""
