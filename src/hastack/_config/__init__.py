"""The parts of `hastack.config`; import from there."""
