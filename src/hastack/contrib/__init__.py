"""Adapters to host frameworks, one module per host; importing the module is the opt-in."""
