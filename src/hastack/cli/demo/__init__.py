"""``hastack demo``: one overload, once per strategy, measured over real sockets.

Split by what each module decides: `_workload` when requests arrive and when the dependency is
sick, `_capacity` how the dependency behaves, `_plain_breaker` the baselines' breaker,
`_strategies` which guards stand where, `_score` what the numbers are. Those are pure. Around
them: `_dependency` and `_service` (the two servers), `_driver` (the load), `_children` and
`_run` (processes), `_table` and `_report` (what people see).
"""
