"""More made-up logs, written after the rules of mining were finished; no rule was made for them."""

from __future__ import annotations

from log_imitations import VALUES

_NAMES = (
    *("alpha", "beta", "gamma", "delta", "orders", "payments", "users", "carts", "billing"),
    *("search", "mail", "auth", "edge", "cache", "proxy", "metrics", "ledger"),
)

VALUES |= {
    "topic": lambda r: r.choice(_NAMES) + r.choice(["", "-events", "-v2", ".dlq"]),
    "tbl": lambda r: r.choice(_NAMES) + r.choice(["", "_archive", "_idx"]),
    "ns": lambda r: r.choice(["default", "kube-system", "prod", "staging"]),
    "pod": lambda r: (
        f"{r.choice(_NAMES)}-{r.getrandbits(36):09x}-{''.join(r.choices('bcdfghjklmnpqrstvwxz2456789', k=5))}"
    ),
    "mailto": lambda r: f"{r.choice(_NAMES)}@{r.choice(_NAMES)}.{r.choice(['com', 'org'])}",
    "qid": lambda r: f"{r.getrandbits(40):010X}",
    "dur": lambda r: r.choice(
        [
            f"{r.randint(1, 999)}ms",
            f"{r.random() * 9:.2f}s",
            f"{r.randint(1, 59)}m{r.randint(0, 59)}s",
        ]
    ),
    "cass": lambda r: f"{r.choice(_NAMES)}.{r.choice(_NAMES)}",
    "img": lambda r: (
        f"registry.local/{r.choice(_NAMES)}/{r.choice(_NAMES)}:{r.randint(1, 9)}.{r.randint(0, 20)}"
    ),
    "method": lambda r: r.choice(["GET", "POST", "PUT"]),
}

HELD_OUT: dict[str, list[tuple[int, str]]] = {
    "Kafka": [
        (
            300,
            "[Partition {topic}-{small} broker={small}] Log loaded for partition {topic}-{small} with initial high watermark {int}",
        ),
        (
            200,
            "[GroupCoordinator {small}]: Member {topic}-{uuid} in group {topic} has failed, removing it from the group",
        ),
        (
            150,
            "[GroupCoordinator {small}]: Preparing to rebalance group {topic} in state PreparingRebalance with old generation {int} (__consumer_offsets-{int})",
        ),
        (
            150,
            "[GroupCoordinator {small}]: Stabilized group {topic} generation {int} (__consumer_offsets-{int}) with {small} members",
        ),
        (
            100,
            "[Log partition={topic}-{small}, dir={path}] Rolled new log segment at offset {int} in {small} ms.",
        ),
        (
            60,
            "[Log partition={topic}-{small}, dir={path}] Deleting segment files LogSegment(baseOffset={int}, size={int})",
        ),
        (
            60,
            "[ReplicaFetcher replicaId={small}, leaderId={small}, fetcherId=0] Truncating partition {topic}-{small} to local high watermark {int}",
        ),
        (40, "[Controller id={small}] Processing automatic preferred replica leader election"),
        (40, "[Controller id={small}] New leader and ISR for partition {topic}-{small} is {small}"),
        (20, "Opening socket connection to server {host}/{ip}:{int}."),
        (20, "Session expired, closing"),
        (20, "Created log for partition {topic}-{small} in {path} with properties «»"),
    ],
    "Postgres": [
        (300, "connection authorized: user={user} database={tbl} application_name=psql"),
        (200, "connection received: host={ip} port={int}"),
        (
            200,
            "disconnection: session time: {time}.{small} user={user} database={tbl} host={ip} port={int}",
        ),
        (150, 'relation "{tbl}" does not exist at character {int}'),
        (80, 'duplicate key value violates unique constraint "{tbl}_pkey"'),
        (100, "checkpoint starting: time"),
        (60, "checkpoint starting: wal"),
        (
            100,
            "checkpoint complete: wrote {int} buffers ({float}%); {small} WAL file(s) added, {small} removed, {small} recycled; write={float} s, sync={float} s, total={float} s",
        ),
        (60, 'automatic vacuum of table "{tbl}.public.{tbl}": index scans: {small}'),
        (60, 'automatic analyze of table "{tbl}.public.{tbl}" system usage: CPU: user: {float} s'),
        (60, 'password authentication failed for user "{user}"'),
        (40, 'role "{user}" is not permitted to log in'),
        (40, "could not receive data from client: Connection reset by peer"),
        (40, "unexpected EOF on client connection with an open transaction"),
        (30, "process {int} still waiting for ShareLock on transaction {int} after {float} ms"),
        (30, "process {int} acquired ShareLock on transaction {int} after {float} ms"),
        (20, "canceling statement due to statement timeout"),
        (20, "canceling statement due to user request"),
    ],
    "Kubelet": [
        (200, "Successfully assigned {ns}/{pod} to {node}"),
        (200, 'Pulling image "{img}"'),
        (200, 'Successfully pulled image "{img}" in {dur}'),
        (150, "Created container {topic}"),
        (150, "Started container {topic}"),
        (100, "Stopping container {topic}"),
        (
            100,
            'Readiness probe failed: Get "http://{ip}:{int}/healthz": dial tcp {ip}:{int}: connect: connection refused',
        ),
        (100, "Liveness probe failed: HTTP probe failed with statuscode: {int}"),
        (80, "Back-off restarting failed container {topic} in pod {pod}_{ns}({uuid})"),
        (60, 'MountVolume.SetUp failed for volume "{topic}" : secret "{topic}" not found'),
        (60, 'MountVolume.SetUp failed for volume "{topic}" : configmap "{topic}" not found'),
        (40, "Scaled up replica set {topic} to {small}"),
        (40, "Scaled down replica set {topic} to {small}"),
        (40, "Node {node} status is now: NodeReady"),
        (30, "Node {node} status is now: NodeNotReady"),
        (30, "{small}/{int} nodes are available: {small} Insufficient cpu."),
        (30, "{small}/{int} nodes are available: {small} Insufficient memory."),
    ],
    "Postfix": [
        (
            250,
            "{qid}: to=<{mailto}>, relay={host}[{ip}]:25, delay={float}, delays={float}/{float}/{float}/{float}, dsn={small}.{small}.{small}, status=sent (250 ok)",
        ),
        (150, "{qid}: from=<{mailto}>, size={int}, nrcpt={small} (queue active)"),
        (150, "{qid}: removed"),
        (150, "connect from {host}[{ip}]"),
        (150, "disconnect from {host}[{ip}]"),
        (80, "connect from unknown[{ip}]"),
        (100, "{qid}: client={host}[{ip}]"),
        (100, "{qid}: message-id=<{uuid}@{host}>"),
        (80, "warning: {host}[{ip}]: SASL LOGIN authentication failed: authentication failure"),
        (60, "lost connection after AUTH from {host}[{ip}]"),
        (60, "lost connection after EHLO from {host}[{ip}]"),
        (40, "warning: hostname {host} does not resolve to address {ip}"),
        (40, "timeout after END-OF-MESSAGE from {host}[{ip}]"),
        (40, "statistics: max connection rate {small}/60s for (smtp:{ip}) at Nov {int} {time}"),
    ],
    "Cassandra": [
        (200, "Enqueuing flush of {tbl}: {float} KiB (0%) on-heap, {float} KiB (0%) off-heap"),
        (
            200,
            "Writing Memtable-{tbl}@{int}({float} KiB serialized bytes, {int} ops, 0%/0% of on/off-heap limit)",
        ),
        (
            150,
            "Completed flushing {path}/nb-{int}-big-Data.db ({float} KiB) for commitlog position CommitLogPosition(segmentId={int}, position={int})",
        ),
        (
            150,
            "Compacted ({uuid}) {small} sstables to [{path}/nb-{int}-big,] to level=0.  {float} MiB to {float} MiB (~{int}% of original) in {int} ms.",
        ),
        (80, "Node /{ip}:7000 is now part of the cluster"),
        (80, "InetAddress /{ip}:7000 is now UP"),
        (80, "InetAddress /{ip}:7000 is now DOWN"),
        (60, "Create new Keyspace: KeyspaceMetadata«name={tbl}, kind=REGULAR»"),
        (60, "Drop table {cass}"),
        (60, "Initializing {cass}"),
        (
            60,
            "G1 Young Generation GC in {int}ms.  G1 Eden Space: {int} -> 0; G1 Old Gen: {int} -> {int};",
        ),
        (40, "Timed out async read from StorageProxy for {cass} after {int} ms"),
        (40, "Timed out async write from StorageProxy for {cass} after {int} ms"),
        (20, "Loading settings from file:{path}"),
    ],
}
