# Run by tests/integration/test_whole_service.py, and not imported by whoever collects tests.
collect_ignore_glob = ["*.py"]
