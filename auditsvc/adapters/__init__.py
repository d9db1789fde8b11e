"""The outside world: one file or folder for each thing that a port stands for.  Adapters do not know each other."""
