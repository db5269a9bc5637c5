# The applications are imported by their test, one at a time, and not by whoever collects tests.
collect_ignore_glob = ["*_app.py"]
