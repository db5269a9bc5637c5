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
    │   ├── PolicyDenied            a plugin says no
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
    ├── EbpfError
    │   ├── MalformedObject         ValueError; ``problem``, ``where``
    │   ├── Unsupported             NotImplementedError; ``feature``, ``reason``, ``remedy``
    │   ├── KernelRefused           OSError; ``operation``, ``errno``, ``hint``, ``detail``
    │   │   └── VerifierError       ``program``, ``reason``, ``instruction``, ``source``, ``log``
    │   ├── MapIncompatible         ValueError; ``name``, ``differences``
    │   ├── PolicyViolation         PermissionError; ``violations``
    │   └── SignatureInvalid        PermissionError
    ├── WasmError
    │   ├── InvalidModule           ValueError; ``offset``: no WebAssembly module
    │   ├── ModuleRefused           ``reasons``: more than the limits allow
    │   ├── UnresolvedImports       LookupError; ``imports`` that nobody granted
    │   ├── NotTrusted              PermissionError; not signed as demanded
    │   ├── CompileFailed           not compiled within its time and memory
    │   ├── AuditBroken             ``line``: the first that is not what was written
    │   ├── PoolExhausted           all instances of a plugin are busy
    │   ├── OutOfBounds             IndexError; ``pointer``, ``length``, ``size``
    │   ├── GuestFailed             RuntimeError; the guest says so itself
    │   │   └── GuestExit           ``status``
    │   └── Trap                    RuntimeError; ``code``: the guest did what it may not
    │       ├── GuestDeadline       TimeoutError; ran too long
    │       └── OutOfFuel           ran too many instructions
    ├── WorkerDied                  RuntimeError; ``work``, ``exit_status``
    └── MissingDependency           ImportError; ``package``, ``extra``

Context errors are never retried by hastack policies, although `DeadlineExceeded` is a
`TimeoutError` (and with it an `OSError`).
"""

from __future__ import annotations

from ._core._errors import (
    AuditBroken,
    Cancelled,
    CircuitOpen,
    ClosedError,
    Compacted,
    CompileFailed,
    ConcurrencyLimited,
    ConfigError,
    ConfigMistake,
    ContextError,
    DeadlineExceeded,
    DiscoveryError,
    EbpfError,
    ForkUnsafe,
    GuestDeadline,
    GuestExit,
    GuestFailed,
    HastackError,
    InvalidArgument,
    InvalidKey,
    InvalidModule,
    KernelRefused,
    LeaseLost,
    LifecycleError,
    MalformedObject,
    MapIncompatible,
    MissingDependency,
    ModuleRefused,
    NoInstance,
    NotAuthorized,
    NotTrusted,
    OriginHeld,
    OutOfBounds,
    OutOfFuel,
    PolicyDenied,
    PolicyViolation,
    PoolExhausted,
    RateLimited,
    Rejected,
    RequestTooLarge,
    RetryBudgetExhausted,
    ShutdownRequested,
    SignatureInvalid,
    StartFailed,
    StopFailed,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
    Trap,
    UnresolvedImports,
    Unsupported,
    VerifierError,
    WasmError,
    WorkerDied,
)

__all__ = (
    "AuditBroken",
    "Cancelled",
    "CircuitOpen",
    "ClosedError",
    "Compacted",
    "CompileFailed",
    "ConcurrencyLimited",
    "ConfigError",
    "ConfigMistake",
    "ContextError",
    "DeadlineExceeded",
    "DiscoveryError",
    "EbpfError",
    "ForkUnsafe",
    "GuestDeadline",
    "GuestExit",
    "GuestFailed",
    "HastackError",
    "InvalidArgument",
    "InvalidKey",
    "InvalidModule",
    "KernelRefused",
    "LeaseLost",
    "LifecycleError",
    "MalformedObject",
    "MapIncompatible",
    "MissingDependency",
    "ModuleRefused",
    "NoInstance",
    "NotAuthorized",
    "NotTrusted",
    "OriginHeld",
    "OutOfBounds",
    "OutOfFuel",
    "PolicyDenied",
    "PolicyViolation",
    "PoolExhausted",
    "RateLimited",
    "Rejected",
    "RequestTooLarge",
    "RetryBudgetExhausted",
    "ShutdownRequested",
    "SignatureInvalid",
    "StartFailed",
    "StopFailed",
    "StoreError",
    "StoreTimeout",
    "StoreUnavailable",
    "Trap",
    "UnresolvedImports",
    "Unsupported",
    "VerifierError",
    "WasmError",
    "WorkerDied",
)
