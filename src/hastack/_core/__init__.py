"""Kernel of hastack: standard library only, imports nothing above it."""
