"""What gunicorn serves in the tests: each request is a span, a log record and a count."""

import logging
import os

from opentelemetry import metrics, trace

from hastack import observe

installed = observe.install()  # from the environment
tracer = trace.get_tracer("app")
requests = installed.metrics.meter("app").counter("app.requests")
sdk_requests = metrics.get_meter("app").create_counter("app.sdk.requests")
log = logging.getLogger("app")


def app(environ, start_response):
    name = environ["PATH_INFO"].lstrip("/")
    with tracer.start_as_current_span(name):
        requests.add(1, {"http.request.method": environ["REQUEST_METHOD"]})
        sdk_requests.add(1)
        log.warning(name)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Connection", "close")])
    return [str(os.getpid()).encode()]
