"""Logs made up in the manner of well-known systems, with the template of every line.

Nobody's data: sentences as these systems write them, values drawn at random. They show whether
mining copes with a system's habits (optional parts, lists, states, names that look like words)
before it ever sees that system.
"""

from __future__ import annotations

import random
import re

Line = tuple[str, str]
"""A message and its template."""

_WORDS = [
    "admin",
    "root",
    "guest",
    "test",
    "oracle",
    "postgres",
    "mysql",
    "ftp",
    "backup",
    "nagios",
    "git",
    "jenkins",
    "deploy",
    "alice",
    "bob",
    "carol",
    "dave",
    "erin",
    "frank",
    "www-data",
    "uucp",
    "pi",
    "ubnt",
    "support",
    "info",
    "webmaster",
]
_PACKAGES = [
    "com.android.systemui",
    "com.tencent.mm",
    "com.android.phone",
    "com.example.music",
    "android",
    "com.google.gms",
    "com.shop.app.main",
    "org.video.player",
]
_ZONES = ("com", "net", "org", "nl", "de", "edu", "ru")
_STATES = ["NEW", "UNASSIGNED", "ASSIGNED", "RUNNING", "SCHEDULED", "SUCCEEDED"]

VALUES = {
    "int": lambda r: str(r.choice((r.randint(0, 9), r.randint(10, 9999), r.randint(10**5, 10**9)))),
    "small": lambda r: str(r.randint(0, 4)),
    "neg": lambda r: str(r.randint(-(10**18), 10**18)),
    "hex": lambda r: f"0x{r.getrandbits(32):08x}",
    "id": lambda r: f"{r.getrandbits(28):07x}",
    "uuid": lambda r: "-".join(f"{r.getrandbits(4 * n):0{n}x}" for n in (8, 4, 4, 4, 12)),
    "ip": lambda r: ".".join(str(r.randint(1, 254)) for _ in range(4)),
    "float": lambda r: f"{r.random() * 10 ** r.randint(0, 4):.{r.randint(1, 4)}f}",
    "time": lambda r: f"{r.randint(0, 23):02}:{r.randint(0, 59):02}:{r.randint(0, 59):02}",
    "life": lambda r: r.choice(("<1 sec", f"{r.randint(0, 59):02}:{r.randint(0, 59):02}")),
    "host": lambda r: (
        f"{r.choice('abcdefgh')}{r.choice(('', '-', str(r.randint(1, 99))))}"
        f"{r.choice(('mail', 'proxy', 'static', 'www'))}.{r.choice(_WORDS)}.{r.choice(_ZONES)}"
    ),
    "user": lambda r: r.choice(_WORDS),
    "fewusers": lambda r: r.choice(("root", "root", "root", "cyrus", "news", "test", "admin")),
    "path": lambda r: "/" + "/".join(r.choice(_WORDS) for _ in range(r.randint(2, 5))),
    "winpath": lambda r: r"C:\Windows\winsxs\x86_servicing_" + f"{r.getrandbits(64):016x}",
    "pkg": lambda r: r.choice(_PACKAGES),
    "bool": lambda r: r.choice(("true", "false")),
    "tag": lambda r: r.choice(("View Lock", "RILJ_ACK_WL", "*launch*", "AudioMix", "SyncLoop")),
    "ws": lambda r: r.choice(
        ("null", f"WorkSource{{{r.randint(10000, 10200)}{r.choice(('', ' com.tencent.mm'))}}}")
    ),
    "node": lambda r: f"node-{r.randint(0, 255)}",
    "bglnode": lambda r: (
        f"R{r.randint(0, 77):02}-M{r.randint(0, 1)}-N{r.randint(0, 15)}-C:J{r.randint(2, 17):02}-U{r.randint(1, 11):02}"
    ),
    "cls": lambda r: (
        "org.apache.hadoop."
        + r.choice(["mapred", "ipc", "hdfs", "yarn", "io", "util", "net", "conf", "fs", "security"])
        + "."
        + r.choice(["Client", "Server", "Task", "Child", "Queue", "Pool", "Lease"])
    ),
    "nodes": lambda r: " ".join(f"dn{r.randint(1, 999)}" for _ in range(r.randint(2, 9))),
    "unit": lambda r: r.choice(("KB", "KB", "B", "MB")),
    "maybe": lambda r: "" if r.random() < 0.02 else r.choice(_WORDS),
    "cbs": lambda r: (
        r.choice((f"Package_for_KB{r.randint(10**6, 10**7)}", "Microsoft-Windows-Core"))
        + r.choice(("", "_RTM", "_SP1"))
        + "~31bf3856ad364e35~amd64~~6.1.1.1"
    ),
    "iface": lambda r: r.choice(("alt0", "ee0", "scip0")),
    "service": lambda r: (
        "com.apple." + r.choice(("networkd", "Safari.search", "cloudd", "dock.extra"))
    ),
    "kb": lambda r: str(r.randint(1, 99999)),
}

SYSTEMS: dict[str, list[tuple[int, str]]] = {
    "Proxifier": [
        (474, "{host}:{int} open through proxy {host}:{int} HTTPS"),
        (30, "{host}:{int} open through proxy {host}:{int} SOCKS5"),
        (150, "{host}:{int} close, {int} bytes sent, {int} bytes received, lifetime {life}"),
        (
            120,
            "{host}:{int} close, {int} bytes ({float} KB) sent, {int} bytes received, lifetime {life}",
        ),
        (
            90,
            "{host}:{int} close, {int} bytes sent, {int} bytes ({float} KB) received, lifetime {life}",
        ),
        (
            90,
            "{host}:{int} close, {int} bytes ({float} KB) sent, {int} bytes ({float} KB) received, lifetime {life}",
        ),
        (
            10,
            "{host}:{int} error : Could not connect through proxy {host}:{int} - Proxy server cannot establish a connection with the target, status code {int}",
        ),
        (5, "open through proxy {host}:{int} failed"),
    ],
    "Android": [
        (
            150,
            "printFreezingDisplayLogsopening app wtoken = AppWindowToken«{id} token=Token«{id} ActivityRecord«{id} u0 {pkg}/.activity.Main t{int}»»», allDrawn= {bool}, startingDisplayed =  {bool}, startingMoved =  {bool}, isRelaunching =  {bool}",
        ),
        (
            250,
            'acquire lock={int}, flags=0x1, tag="{tag}", name={pkg}, ws={ws}, uid={int}, pid={int}',
        ),
        (
            250,
            'release lock={int}, flg=0x0, tag="{tag}", name={pkg}", ws={ws}, uid={int}, pid={int}',
        ),
        (
            60,
            "ready=true,policy={int},wakefulness={int},wksummary={hex},uasummary={hex},bootcompleted={bool},boostinprogress={bool},mode={bool},manual={int},auto={int},adj={float}userId={int}",
        ),
        (
            80,
            "Skipping AppWindowToken«{id} token=Token«{id} ActivityRecord«{id} u0 {pkg}/.Main t{int}»»»  -- going to hide",
        ),
        (60, "getRunningAppProcesses: caller {int} does not hold REAL_GET_TASKS; limiting output"),
        (60, "getTasks: caller {int} does not hold REAL_GET_TASKS; limiting output"),
        (
            30,
            "animateCollapsePanels:flags={int}, force={bool}, delayed={bool}, mExpandedVisible={bool}",
        ),
        (40, "setSystemUiVisibility vis={int} mask={int} oldVal={int} newVal={int} diff={int}"),
        (50, "HBM brightnessIn ={int}"),
        (50, "HBM brightnessOut ={int}"),
        (30, "Animating brightness: target={int}, rate={int}"),
        (
            30,
            "interceptKeyTq keycode={int} interactive={bool} keyguardActive={bool} policyFlags={int}",
        ),
        (20, "Bad activity token: android.os.BinderProxy@{id}"),
        (20, "userActivityNoUpdateLocked: eventTime={int}, event={int}, flags={hex}, uid={int}"),
        (10, 'Acquiring suspend blocker "PowerManagerService.WakeLocks".'),
        (10, 'Releasing suspend blocker "PowerManagerService.WakeLocks".'),
        (10, 'Acquiring suspend blocker "PowerManagerService.Display".'),
        (10, 'Releasing suspend blocker "PowerManagerService.Display".'),
        (15, "cancelNotification,index:{int}"),
        (15, "cancelNotification,cancelNotificationLocked,callingUid = {int},callingPid = {int}"),
        (10, "cancelAutohide"),
        (10, "cancelPeek"),
        (9, "visible is system.time.showampm"),
        (9, "visible is system.message.count.gt0"),
        (9, "visible is system.call.count.gt0"),
        (20, "updateNotificationShade: total={int}, active={int}, mode={int}"),
    ],
    "OpenSSH": [
        (280, "Failed password for {fewusers} from {ip} port {int} ssh2"),
        (130, "Failed password for invalid user {maybe} from {ip} port {int} ssh2"),
        (110, "Invalid user {maybe} from {ip}"),
        (110, "input_userauth_request: invalid user {maybe} [preauth]"),
        (
            300,
            "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={ip}  user=root",
        ),
        (
            110,
            "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={host}",
        ),
        (110, "pam_unix(sshd:auth): check pass; user unknown"),
        (300, "Received disconnect from {ip}: 11: Bye Bye [preauth]"),
        (
            60,
            "reverse mapping checking getaddrinfo for {host} [{ip}] failed - POSSIBLE BREAK-IN ATTEMPT!",
        ),
        (
            60,
            "PAM {int} more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost={ip}  user=root",
        ),
        (
            5,
            "PAM 1 more authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={ip}  user=root",
        ),
        (40, "PAM service(sshd) ignoring max retries; {int} > 3"),
        (30, "message repeated {int} times: [ Failed password for root from {ip} port {int} ssh2]"),
        (30, "Connection closed by {ip} [preauth]"),
        (
            10,
            "error: Received disconnect from {ip}: 3: com.jcraft.jsch.JSchException: Auth fail [preauth]",
        ),
        (20, "Disconnecting: Too many authentication failures for {fewusers} [preauth]"),
        (6, "Accepted password for {fewusers} from {ip} port {int} ssh2"),
        (6, "pam_unix(sshd:session): session opened for user {fewusers} by (uid=0)"),
        (6, "pam_unix(sshd:session): session closed for user {fewusers}"),
        (6, "Did not receive identification string from {ip}"),
        (
            3,
            "Address {ip} maps to {host}, but this does not map back to the address - POSSIBLE BREAK-IN ATTEMPT!",
        ),
    ],
    "Windows": [
        (150, "Loaded Servicing Stack v{float}.{int}.{int} with Core: {winpath}\\cbscore.dll"),
        (250, "SQM: Initializing online with Windows opt-in: {bool}"),
        (
            250,
            "SQM: Failed to start upload with file pattern: {winpath}\\*_std.sqm, flags: {hex} [HRESULT = {hex} - E_FAIL]",
        ),
        (200, "SQM: Failed to start standard sample upload. [HRESULT = {hex} - E_FAIL]"),
        (200, "SQM: Cleaning up report files older than {int} days."),
        (100, "SQM: Requesting upload of all unsent reports."),
        (100, "Warning: Unrecognized packageExtended attribute."),
        (80, "Expecting attribute name [HRESULT = 0x800f080d - CBS_E_MANIFEST_INVALID_ITEM]"),
        (80, "Failed to get next element [HRESULT = 0x800f080d - CBS_E_MANIFEST_INVALID_ITEM]"),
        (120, "Session: {int}_{int} initialized by client WindowsUpdateAgent."),
        (120, "Session: {int}_{int} initialized by client SPP."),
        (
            150,
            "Read out cached package applicability for package: {cbs}, ApplicableState: {int}, CurrentState:{int}",
        ),
        (30, '{id} Creating NT transaction (seq {int}), objectname [6]"(null)"'),
        (30, "{id} Created NT transaction (seq {int}) result 0x00000000, handle @{hex}"),
        (10, "Ending TrustedInstaller initialization."),
        (10, "Starting TrustedInstaller initialization."),
        (10, "Ending the TrustedInstaller main loop."),
        (10, "Starting the TrustedInstaller main loop."),
        (10, "TrustedInstaller service starts successfully."),
        (20, "NonStart: Checking to ensure startup processing was not required."),
        (10, "Reboot mark refs: {int}"),
        (10, "No startup processing required, TrustedInstaller service was not set as autostart"),
    ],
    "BGL": [
        (700, "generating core.{int}"),
        (200, "instruction cache parity error corrected"),
        (80, "{int} double-hummer alignment exceptions"),
        (70, "{int} floating point alignment exceptions"),
        (150, "CE sym {int}, mask {hex}"),
        (150, "{int} ddr errors(s) detected and corrected on rank 0, symbol {int}, bit {int}"),
        (80, "{int} L3 EDRAM error(s) (dcr {hex}) detected and corrected over {int} seconds"),
        (
            60,
            "ciod: failed to read message prefix on control stream (CioStream socket to {ip}:{int}",
        ),
        (
            60,
            "ciod: Error loading {path}: invalid or missing program image, No such file or directory",
        ),
        (60, "ciod: Error loading {path}: program image too big, {int} > {int}"),
        (30, "ciod: LOGIN chdir({path}) failed: No such file or directory"),
        (30, "ciod: LOGIN chdir({path}) failed: Input/output error"),
        (30, "iar {id} dear {id}"),
        (30, "data TLB error interrupt"),
        (20, "data storage interrupt"),
        (20, "rts: kernel terminated for reason {int}"),
        (20, "program interrupt: illegal instruction......{small}"),
        (20, "program interrupt: fp compare............{small}"),
        (20, "fpr{int}={hex} {hex} {hex} {hex}"),
        (
            10,
            "Node card VPD check: missing {bglnode} node, VPD ecid {int} in processor card slot J{int}",
        ),
        (
            10,
            "PrepareForService is being done on this part (mLctn({bglnode}), mCardSernum({int}), mLp({int}), mIp({ip}), mType({int})) by {user}",
        ),
        (
            10,
            "idoproxydb hit ASSERT condition: ASSERT expression={small} Source file={path}.cpp Source line={int} Function={user}",
        ),
        (15, "byte ordering exception.....................{small}"),
        (15, "debug wait enable.................{small}"),
        (15, "store operation.............................{small}"),
        (10, "problem state (0=sup,1=usr).......{small}"),
        (10, "total of {int} ddr error(s) detected and corrected over {int} seconds"),
        (10, "machine check: i-fetch......................{small}"),
        (10, "Lustre mount FAILED : {bglnode} : block_id : location"),
        (10, "MidplaneSwitchController performing bit sparing on {bglnode} bit {int}"),
    ],
    "HPC": [
        (300, "Link error on broadcast tree Interconnect-0T{int}:00:{small}:{small}"),
        (300, "ambient={int}"),
        (
            200,
            "Component State Change: Component \\042alt0\\042 is in the unavailable state (HWID={int})",
        ),
        (200, "ClusterFileSystem: There is no server for ServerFileSystem domain storage{int}"),
        (200, "boot (command {int})"),
        (100, "halt (command {int})"),
        (100, "risBoot (command {int})"),
        (100, "Fan speeds ( {int} {int} {int} {int} {int} {int} )"),
        (60, "Temperature ({int}) exceeds warning threshold"),
        (100, "Node {node} detected network connection on network {ip} via interface {iface}"),
        (50, "ServerFileSystem: An ServerFileSystem domain panic has occurred on storage{int}"),
        (60, "PSU status ( off off off )"),
        (20, "PSU status ( on off on )"),
        (30, "Link in reset"),
        (20, "Link ok"),
        (10, "Linkerror event interval expired"),
        (10, "{node} is unavailable due to communication failure"),
        (10, "ServerFileSystem: storage{int} is full"),
    ],
    "Mac": [
        (40, "ARPT: {float}: wl0: setup_keepalive: Remote IP: {ip}"),
        (40, "ARPT: {float}: wl0: setup_keepalive: Local port: {int}, Remote port: {int}"),
        (40, "ARPT: {float}: wl0: setup_keepalive: Seq: {int}, Ack: {int}, Win size: {int}"),
        (
            40,
            "ARPT: {float}: wl0: wl_update_tcpkeep_seq: Original Seq: {int}, Ack: {int}, Win size: {int}",
        ),
        (40, "ARPT: {float}: wl0: MDNS: IPV4 Addr: {ip}"),
        (40, "ARPT: {float}: AirPort_Brcm43xx::syncPowerState: WWEN[enabled]"),
        (
            40,
            "ARPT: {float}: IOPMPowerSource Information: onWake,  SleepType: Normal Sleep,  'ExternalConnected': Yes, 'TimeRemaining': {int},",
        ),
        (
            60,
            "AirPort: Link Down on awdl0. Reason {small} (Disassociated because station leaving).",
        ),
        (60, "AirPort: Link Up on awdl0"),
        (60, "en0: BSSID changed to {id}"),
        (60, "en0: channel changed to {int}"),
        (
            60,
            "IOThunderboltSwitch<0>(0x0)::listenerCallback - Thunderbolt HPD packet for route = 0x0 port = {int} unplug = {small}",
        ),
        (80, "Thermal pressure state: {small} Memory pressure state: {small}"),
        (40, "AppleThunderboltNHIType2::prePCIWake - power up complete - took {int} us"),
        (40, "AppleThunderboltGenericHAL::earlyWake - complete - took {int} milliseconds"),
        (30, "TBT W ({small}): {hex} [x]"),
        (40, "Wake reason: {id} (Network)"),
        (30, "hibernate_page_list_setall time: {int} ms"),
        (
            40,
            "DEPRECATED USE in libdispatch client: Setting timer interval to {int} requests a {int}ns timer, did you mean FOREVER (a one-shot timer)?",
        ),
        (60, "Could not determine duetActivityHandlers for activity {user}"),
        (40, "Unexpected -[CFPasteboardRef] to {user}"),
        (30, "[HID] [MT] AppleActuatorHIDEventDriver::start entered"),
        (
            30,
            "[HID] [MT] MTActuatorManagement::getActuatorRef Calling MTActuatorOpen() outside of MTTrackpadHIDManager.",
        ),
        (30, "Previous sleep cause: {small}"),
        (30, "PM response took {int} ms ({int}, {user})"),
        (40, "Received Capabilities for {user} from {ip}"),
        (20, "{time}.{int} DEBUG: [NETWORK] network changed"),
        (20, "Sandbox: {service}({int}) deny(1) mach-lookup {service}"),
        (20, "PMRD: idle prevented by {user}"),
    ],
    "Thunderbird": [
        (200, "session opened for user root by (uid=0)"),
        (200, "session closed for user root"),
        (200, "(root) CMD (run-parts /etc/cron.hourly)"),
        (80, "(root) CMD (/usr/lib/sa/sa1 1 1)"),
        (150, "data_thread() got not answer from any [Thunderbird_{int}] datasource"),
        (40, "Warning: we failed to resolve data source name {nodes}"),
        (60, "DHCPDISCOVER from {mac} via eth1"),
        (60, "DHCPDISCOVER from {mac} via eth1: network A_net: no free leases"),
        (60, "DHCPREQUEST for {ip} from {mac} via eth1"),
        (60, "DHCPACK on {ip} to {mac} via eth1"),
        (60, "DHCPOFFER on {ip} to {mac} via eth1"),
        (80, "[ib_sm_sweep.c:{int}]: No topology change"),
        (60, "[ib_sm_bringup.c:{int}]: ********************** NEW SWEEP ********************"),
        (60, "check-disks: [{time}] , There is no hard disk on this node"),
        (60, "synchronized to {ip}, stratum {int}"),
        (50, "connect from {ip} ({ip})"),
        (50, "EXT3-fs: INFO: recovery required on readonly filesystem."),
        (
            40,
            "kernel: e1000: eth{small}: e1000_watchdog_task: NIC Link is Up {int} Mbps Full Duplex",
        ),
        (40, "PCI: Using IRQ router default [{int}/{int}] at {id}:{small}"),
        (30, "ACPI: LAPIC (acpi_id[0x{small}] lapic_id[0x{small}] enabled)"),
        (30, "CPU{small}: Intel(R) Xeon(TM) CPU {float}GHz stepping 0{small}"),
        (30, "Losing some ticks... checking if CPU frequency changed."),
        (20, "authenticated mount request from {user}:{int} for {path} ({path})"),
        (20, "crond startup succeeded"),
        (20, "ntpd startup succeeded"),
        (20, "sendmail startup succeeded"),
    ],
    "Hadoop": [
        (300, "Progress of TaskAttempt attempt_{int}_0020_m_00000{small}_0 is : {float}"),
        (
            200,
            "Retrying connect to server: {host}:{int}. Already tried {int} time(s); retry policy is RetryUpToMaximumCountWithFixedSleep(maxRetries={int}, sleepTime={int} MILLISECONDS)",
        ),
        (200, "Address change detected. Old: {host}/{ip}:{int} New: {host}:{int}"),
        (
            200,
            "Failed to renew lease for [DFSClient_NONMAPREDUCE_{int}_1] for {int} seconds.  Will retry shortly ...",
        ),
        (120, "ERROR IN CONTACTING RM."),
        (60, "attempt_{int}_0020_m_00000{small}_0 TaskAttempt Transitioned from NEW to UNASSIGNED"),
        (
            60,
            "attempt_{int}_0020_m_00000{small}_0 TaskAttempt Transitioned from UNASSIGNED to ASSIGNED",
        ),
        (
            60,
            "attempt_{int}_0020_m_00000{small}_0 TaskAttempt Transitioned from ASSIGNED to RUNNING",
        ),
        (40, "task_{int}_0020_m_00000{small} Task Transitioned from NEW to SCHEDULED"),
        (40, "task_{int}_0020_m_00000{small} Task Transitioned from SCHEDULED to RUNNING"),
        (20, "job_{int}_0020Job Transitioned from INITED to SETUP"),
        (40, "JVM with ID : jvm_{int}_0020_m_00000{small} asked for a task"),
        (
            40,
            "JVM with ID: jvm_{int}_0020_m_00000{small} given task: attempt_{int}_0020_m_00000{small}_0",
        ),
        (60, "Recalculating schedule, headroom=<memory:{int}, vCores:{neg}>"),
        (60, "Reduce slow start threshold not met. completedMapsForReduceSlowstart {int}"),
        (40, "Registering class {cls}$EventType for class {cls}"),
        (
            20,
            "Assigned container container_{int}_0020_01_00000{small} to attempt_{int}_0020_m_00000{small}_0",
        ),
        (20, "Auth successful for job_{int}_0020 (auth:SIMPLE)"),
        (
            20,
            "Processing the event EventType: CONTAINER_REMOTE_LAUNCH for container container_{int}_0020_01_00000{small} taskAttempt attempt_{int}_0020_m_00000{small}_0",
        ),
        (
            20,
            "Processing the event EventType: CONTAINER_REMOTE_CLEANUP for container container_{int}_0020_01_00000{small} taskAttempt attempt_{int}_0020_m_00000{small}_0",
        ),
        (
            20,
            "DFSOutputStream ResponseProcessor exception  for block BP-{int}-{ip}-{int}:blk_{int}_{int}",
        ),
        (
            20,
            "Slow ReadProcessor read fields took {int}ms (threshold=30000ms); ack: seqno: {int} status: SUCCESS downstreamAckTimeNanos: {int}, targets: [{ip}:{int}, {ip}:{int}]",
        ),
        (10, "Resolved {host} to /default-rack"),
        (10, "Stopping server on {int}"),
        (10, "loaded properties from hadoop-metrics2.properties"),
    ],
    "Spark": [
        (600, "Found block rdd_{int}_{int} locally"),
        (
            250,
            "Finished task {int}.0 in stage {int}.0 (TID {int}). {int} bytes result sent to driver",
        ),
        (250, "Running task {int}.0 in stage {int}.0 (TID {int})"),
        (250, "Got assigned task {int}"),
        (100, "Times: total = {int}, boot = {neg}, init = {int}, finish = {int}"),
        (60, "Partition rdd_{int}_{int} not found, computing it"),
        (60, "Input split: hdfs://{ip}:{int}{path}/part-{int}:{int}+{int}"),
        (60, "Saved output of task 'attempt_{int}_0000_m_{int}_{int}' to hdfs://{ip}:{int}{path}"),
        (60, "attempt_{int}_0000_m_{int}_{int}: Committed"),
        (
            60,
            "Block broadcast_{int} stored as values in memory (estimated size {float} {unit}, free {float} {unit})",
        ),
        (
            60,
            "Block broadcast_{int}_piece0 stored as bytes in memory (estimated size {float} {unit}, free {float} {unit})",
        ),
        (
            60,
            "Block rdd_{int}_{int} stored as bytes in memory (estimated size {float} {unit}, free {float} {unit})",
        ),
        (60, "Started reading broadcast variable {int}"),
        (60, "Reading broadcast variable {int} took {int} ms"),
        (20, "Getting {int} non-empty blocks out of {int} blocks"),
        (20, "Started {int} remote fetches in {int} ms"),
        (10, "Changing view acls to: {fewusers},{fewusers}"),
        (10, "Changing modify acls to: {fewusers},{fewusers}"),
        (10, "Successfully started service 'sparkExecutorActorSystem' on port {int}."),
        (
            10,
            "Successfully started service 'org.apache.spark.network.netty.NettyBlockTransferService' on port {int}.",
        ),
    ],
    "Zookeeper": [
        (300, "Received connection request /{ip}:{int}"),
        (250, "Notification time out: {int}"),
        (250, "Interrupted while waiting for message on queue"),
        (250, "Send worker leaving thread"),
        (250, "Interrupting SendWorker"),
        (250, "Connection broken for id {neg}, my id = {int}, error ="),
        (120, "Cannot open channel to {small} at election address /{ip}:{int}"),
        (
            60,
            "Notification: {int} (n.leader), {hex} (n.zxid), {hex} (n.round), LOOKING (n.state), {int} (n.sid), {hex} (n.peerEPoch), LOOKING (my state)",
        ),
        (
            30,
            "Notification: {int} (n.leader), {hex} (n.zxid), {hex} (n.round), LOOKING (n.state), {int} (n.sid), {hex} (n.peerEPoch), FOLLOWING (my state)",
        ),
        (60, "Closed socket connection for client /{ip}:{int} which had sessionid {hex}"),
        (30, "Closed socket connection for client /{ip}:{int} (no session established for client)"),
        (60, "Client attempting to establish new session at /{ip}:{int}"),
        (40, "Client attempting to renew session {hex} at /{ip}:{int}"),
        (60, "Established session {hex} with negotiated timeout {int} for client /{ip}:{int}"),
        (60, "Accepted socket connection from /{ip}:{int}"),
        (50, "Expiring session {hex}, timeout of {int}ms exceeded"),
        (50, "Processed session termination for sessionid: {hex}"),
        (40, "caught end of stream exception"),
        (40, "******* GOODBYE /{ip}:{int} ********"),
        (20, "Have smaller server identifier, so dropping the connection: ({small}, {small})"),
        (10, "Server environment:java.version={float}"),
        (10, "Server environment:os.name={user}"),
        (10, "Snapshotting: {hex} to {path}/snapshot.{id}"),
        (10, "Getting a snapshot from leader"),
        (5, "FOLLOWING"),
        (5, "LEADING"),
        (5, "LOOKING"),
    ],
    "Apache": [
        (500, "jk2_init() Found child {int} in scoreboard slot {int}"),
        (500, "workerEnv.init() ok {path}/workers2.properties"),
        (500, "mod_jk child workerEnv in error state {small}"),
        (60, "[client {ip}] Directory index forbidden by rule: {path}/"),
        (20, "jk2_init() Can't find child {int} in scoreboard"),
        (20, "mod_jk child init {small} -{small}"),
    ],
}
HEADERS = {
    "Proxifier": "[10.30 {time}] {program} - ",
    "Android": "03-17 {time}.{ms}  {int}  {int} {letter} {tag2}: ",
    "OpenSSH": "Dec 10 {time} LabSZ sshd[{int}]: ",
    "Windows": "2016-09-28 {time}, Info                  {cbsi}    ",
    "BGL": "{alert} {epoch} 2005.06.03 {bglnode} 2005-06-03-15.42.50.{ms} {bglnode} RAS {part} {level} ",
    "HPC": "{int} {place} {unix} {state} {epoch} 1 ",
    "Mac": "Jul  1 {time} calvisitor-10-105-160-95 {app}: ",
    "Thunderbird": "- {epoch} 2005.11.09 dn{small} Nov 9 {time} dn{small}/dn{small} {app}: ",
    "Hadoop": "2015-10-18 {time},{ms} {level} [{thread}] {cls}: ",
    "Spark": "17/06/09 {time} {level} executor.{tag2}: ",
    "Zookeeper": "2015-07-29 {time},{ms} - {level}  [{thread}] - ",
    "Apache": "[Sun Dec 04 {time} 2005] [{lowlevel}] ",
}
VALUES |= {
    "ms": lambda r: f"{r.randint(0, 999):03}",
    "epoch": lambda r: str(r.randint(1117838570, 1131566461)),
    "program": lambda r: r.choice(("chrome.exe", "chrome.exe *64", "Skype.exe")),
    "letter": lambda r: r.choice("VDIWE"),
    "tag2": lambda r: r.choice(
        ("PowerManagerService", "WindowManager", "ActivityManager", "Audio")
    ),
    "cbsi": lambda r: r.choice(("CBS", "CBS", "CBS", "CSI")),
    "alert": lambda r: "KERNDTLB" if r.random() < 0.05 else "-",
    "part": lambda r: r.choice(("KERNEL", "KERNEL", "KERNEL", "APP", "DISCOVERY")),
    "level": lambda r: r.choice(("INFO", "INFO", "WARN", "ERROR", "FATAL")),
    "lowlevel": lambda r: r.choice(("notice", "error")),
    "place": lambda r: r.choice(
        (f"node-{r.randint(0, 255)}", "gige7", "ConnectionMgr", "Interconnect-0N00")
    ),
    "unix": lambda r: r.choice(("unix.hw", "boot_cmd", "switch_module")),
    "state": lambda r: r.choice(("state_change.unavailable", "error", "status", "net.niff.up")),
    "app": lambda r: r.choice(
        ("kernel[0]", "crond(pam_unix)[2915]", "Microsoft Word[14463]", "launchd[1] (com.a.b[45])")
    ),
    "thread": lambda r: r.choice(
        (
            "main",
            "IPC Server handler 0 on 62270",
            "QuorumPeer[myid=1]/0:0:0:0:0:0:0:0:2181:Fast@774",
        )
    ),
}
VALUES["mac"] = lambda r: ":".join(f"{r.getrandbits(8):02x}" for _ in range(6))
_BRACES = {0xAB: "{", 0xBB: "}"}
_SLOT = re.compile(r"\{([a-z]+2?)\}")


def with_headers(system: str, lines: list[Line], *, seed: int = 1) -> list[str]:
    """Whole lines: the messages behind headers as ``system`` writes them."""
    draw = random.Random(f"header {system} {seed}")
    header = HEADERS[system]
    return [
        _SLOT.sub(lambda found: VALUES[found[1]](draw), header) + message for message, _ in lines
    ]


def imitate(
    system: str,
    lines: int,
    *,
    seed: int = 1,
    systems: dict[str, list[tuple[int, str]]] | None = None,
) -> list[Line]:
    """``lines`` messages of ``system``, each with its template."""
    draw = random.Random(f"{system} {seed}")
    weights, shapes = zip(*(systems or SYSTEMS)[system], strict=True)
    made = []
    for shape in draw.choices(shapes, weights, k=lines):
        message = _SLOT.sub(lambda found: VALUES[found[1]](draw), shape)
        template = _SLOT.sub("<*>", shape)
        made.append((message.translate(_BRACES), template.translate(_BRACES)))
    return made
