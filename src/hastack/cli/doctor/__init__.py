"""What ``hastack doctor`` looks at: one module per section, each yielding findings."""
