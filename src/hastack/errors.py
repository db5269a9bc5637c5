"""Every error that hastack raises, in one tree.

Each class is also the standard-library class that a caller would expect, so existing
``except TimeoutError`` or ``except ValueError`` clauses keep working::

    HastackError                    Exception
    ├── ContextError
    │   ├── Cancelled               the context was cancelled; ``cause`` says why
    │   └── DeadlineExceeded        TimeoutError
    ├── Rejected                    a guard said no; ``name``, ``retry_after``
    │   ├── RateLimited
    │   ├── ConcurrencyLimited
    │   ├── CircuitOpen
    │   ├── RetryBudgetExhausted
    │   └── NoInstance              discovery knows of no instance to call
    ├── InvalidArgument             ValueError; ``parameter``, ``value``, ``accepted``
    │   └── InvalidKey              TypeError as well
    ├── ConfigError                 ExceptionGroup of ConfigMistake: all mistakes at once
    ├── ConfigMistake               ValueError; ``path``, ``problem``, ``accepted``, ``source``
    ├── ClosedError                 RuntimeError; the object was closed
    ├── LifecycleError              RuntimeError
    │   ├── StartFailed             ``component``; its error is the ``__cause__``
    │   ├── StopFailed              ``components``, ``report``
    │   └── ShutdownRequested       the cause given to the cancelled root context
    ├── ForkUnsafe                  RuntimeError; forked from a process that was using gRPC
    ├── DiscoveryError
    │   ├── OriginHeld              ``origin``, ``writer``: a forwarder has it
    │   └── StoreError              ``code``, ``endpoint``: the store refused
    │       ├── StoreUnavailable    ConnectionError; ``indeterminate``: a write may be applied
    │       │   └── StoreTimeout    TimeoutError as well
    │       ├── NotAuthorized       PermissionError
    │       ├── RequestTooLarge     ValueError; ``unit``, ``size``, ``limit``
    │       ├── Compacted           ``revision``: the oldest that can be read
    │       └── LeaseLost           ``lease``
    └── MissingDependency           ImportError; ``package``, ``extra``

Context errors are never retried by hastack policies, although `DeadlineExceeded` is a
`TimeoutError` (and with it an `OSError`).
"""

from __future__ import annotations

from ._core._errors import (
    Cancelled,
    CircuitOpen,
    ClosedError,
    Compacted,
    ConcurrencyLimited,
    ConfigError,
    ConfigMistake,
    ContextError,
    DeadlineExceeded,
    DiscoveryError,
    ForkUnsafe,
    HastackError,
    InvalidArgument,
    InvalidKey,
    LeaseLost,
    LifecycleError,
    MissingDependency,
    NoInstance,
    NotAuthorized,
    OriginHeld,
    RateLimited,
    Rejected,
    RequestTooLarge,
    RetryBudgetExhausted,
    ShutdownRequested,
    StartFailed,
    StopFailed,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)

__all__ = (
    "Cancelled",
    "CircuitOpen",
    "ClosedError",
    "Compacted",
    "ConcurrencyLimited",
    "ConfigError",
    "ConfigMistake",
    "ContextError",
    "DeadlineExceeded",
    "DiscoveryError",
    "ForkUnsafe",
    "HastackError",
    "InvalidArgument",
    "InvalidKey",
    "LeaseLost",
    "LifecycleError",
    "MissingDependency",
    "NoInstance",
    "NotAuthorized",
    "OriginHeld",
    "RateLimited",
    "Rejected",
    "RequestTooLarge",
    "RetryBudgetExhausted",
    "ShutdownRequested",
    "StartFailed",
    "StopFailed",
    "StoreError",
    "StoreTimeout",
    "StoreUnavailable",
)
