"""``hastack demo``: one overload, once per strategy, measured over real sockets.

Split by what each module decides. Pure: `_workload` when requests arrive and when the dependency
is sick, `_trace` what an access log says about arrivals, `_capacity` how the dependency behaves,
`_plain_breaker` the baselines' breaker, `_score` and `_verdict` what the numbers are, `_document`,
`_report`, `_svg` and `_style` how they look. Processes: `_dependency`, `_service` (whose guards
come from `_strategies`) and `_load` (`_driver`), started by `_run` through `_children`. People
see `_table`, live and at the end; `_session` is one invocation of all that.
"""
