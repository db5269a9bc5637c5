"""What ``hastack top`` is made of."""
