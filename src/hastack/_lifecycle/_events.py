"""Events of a service's life."""

from __future__ import annotations

import attrs

from hastack.events import Event, topic

from ._machine import Phase, Step  # noqa: TC001  # attrs.resolve_types() wants them here
from ._report import ShutdownReport  # noqa: TC001  # the same


@attrs.frozen(kw_only=True)
class PhaseChanged(Event):
    """A service entered another phase of its life.

    Attributes:
        name: The service.
        phase: The new phase.
    """

    name: str
    phase: Phase


@attrs.frozen(kw_only=True)
class ComponentStarted(Event):
    """A component started and is ready.

    Attributes:
        name: The service.
        component: The component.
        took: Seconds from the beginning of its start.
    """

    name: str
    component: str
    took: float


@attrs.frozen(kw_only=True)
class ComponentStopped(Event):
    """A component stopped.

    Attributes:
        name: The service.
        component: The component.
        took: Seconds its stop took.
    """

    name: str
    component: str
    took: float


@attrs.frozen(kw_only=True)
class ComponentFailed(Event):
    """A step of a component raised.

    Attributes:
        name: The service.
        component: The component.
        step: What it was doing.
        error: What it raised.
    """

    name: str
    component: str
    step: Step
    error: BaseException


@attrs.frozen(kw_only=True)
class ShutdownStarted(Event):
    """A service was asked to end.

    Attributes:
        name: The service.
        cause: Why.
        budget: Seconds it may take.
    """

    name: str
    cause: BaseException
    budget: float


@attrs.frozen(kw_only=True)
class ShutdownFinished(Event):
    """A service ended.

    Attributes:
        name: The service.
        report: What happened.
    """

    name: str
    report: ShutdownReport


PHASE_CHANGED = topic(PhaseChanged)
COMPONENT_STARTED = topic(ComponentStarted)
COMPONENT_STOPPED = topic(ComponentStopped)
COMPONENT_FAILED = topic(ComponentFailed)
SHUTDOWN_STARTED = topic(ShutdownStarted)
SHUTDOWN_FINISHED = topic(ShutdownFinished)
