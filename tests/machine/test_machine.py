# SPDX-License-Identifier: GPL-2.0-or-later
"""What a container can't show: limits of processors, memory and processes, which need control
groups with their controllers, and power that is lost. The promises are in docs/reliability.md.

One machine for all of it, since each boot takes its time: it is emulated."""

from __future__ import annotations

import json

import pytest
from shared.paths import SHARED
from shared.pool import MAP, quick_workers
from testbed import Snapshot, Testbed
from testbed.vm import Machine

FOLDER = "/usr/local/lib/faults"
PROGRAM = "/usr/lib/cgi-bin/qgis_mapserv.fcgi"

# Found through PYTHONPATH: the power goes at the n-th change that qgis-serverctl makes.
POWER = """
import os, sys

CHANGES = {"os.remove", "os.rename", "os.symlink"}

def step(event, args):
    global left
    if event in CHANGES:
        left -= 1
        if left == 0:
            with open("/proc/sysrq-trigger", "w") as trigger:
                trigger.write("b")

left = int(os.environ.get("POWER_LOST_AT", "0"))
if any(word.endswith("/qgis-serverctl") for word in sys.orig_argv):
    sys.addaudithook(step)
"""

# A line of JSON: what each of those who must agree says of the pool, once new workers
# are up: until then NGINX does not name them.
LOOK = r"""
import json, os, pathlib, re, subprocess, time, tomllib

def ran(*command):
    return subprocess.run(command, capture_output=True, text=True)

def numbers(text):
    return sorted({int(n) for n in re.findall(r"qgis-server[@-](\d+)\.sock", text)})

def look():
    etc = pathlib.Path("/etc/systemd/system")
    state = json.loads(pathlib.Path("/var/lib/qgis-server-systemd/state.json").read_text())
    return {
        "wanted": tomllib.loads(pathlib.Path("/etc/qgis-server/server.auto.toml").read_text()),
        "links": numbers(" ".join(os.listdir(etc / "sockets.target.wants"))),
        "target": numbers(" ".join(os.listdir(etc / "qgis-server.target.wants"))),
        "state": [state["enabled"], state["pending"]],
        "upstream": numbers(pathlib.Path("/etc/nginx/conf.d/qgis-server.conf").read_text()),
        "sockets": numbers(ran("ss", "-lxH").stdout),
        "nginx": ran("nginx", "-t", "-q").returncode,
        "left": json.loads(ran("qgis-serverctl", "status", "--json").stdout)["pending"],
    }

deadline = time.monotonic() + 300
while (found := look())["upstream"] != found["sockets"] or found["left"]:
    if time.monotonic() > deadline:
        break
    time.sleep(1)  # between two looks; what never comes true is printed as it is
print(json.dumps(found), flush=True)
"""

# Each step prints the number of listening sockets once apply is through.
CORES = """
count() {
    qgis-serverctl apply >&2
    ss -lxH | grep -c '/run/qgis-server-[0-9]'
}
ss -lxH | grep -c '/run/qgis-server-[0-9]'
systemctl set-property qgis-server.slice CPUQuota=150%
count
systemctl set-property qgis-server.slice CPUQuota= AllowedCPUs=0-2
count
systemctl set-property qgis.slice CPUQuota=50%
count
systemctl set-property qgis.slice CPUQuota=
systemctl set-property qgis-server.slice AllowedCPUs=
OMP_NUM_THREADS=1 taskset --cpu-list 0 qgis-serverctl apply >&2
ss -lxH | grep -c '/run/qgis-server-[0-9]'
systemctl start qgis-server@heavy-1.service
cat /sys/fs/cgroup/qgis.slice/qgis-server.slice/qgis-server-heavy.slice/cpu.weight
qgis-serverctl status --json
"""

# The first change is the setting, then come those of the first instance that goes or comes.
SHRINK, GROW = (4, 1), (3, 2)
CUTS = (SHRINK, GROW)

TASKS = 24
# The look at projects for the front page would have the same limit.
TIGHT = f'memory_max = "200M"\nfront_page = "off"\ntasks_max = {TASKS}\n'
GENEROUS = 'memory_max = "700M"\nfront_page = "off"'

# In the place of QGIS Server, of which each start takes a minute here: like quick_workers, but who
# sends it a request makes it start processes, and, if it got as many as it may have and no more,
# use 300 MB. A variable, since Perl works out constants as it starts.
LEAK = f"""\
#!/usr/bin/perl
use Socket;
open(my $ready, ">", "$ENV{{RUNTIME_DIRECTORY}}/ready");
accept(my $client, STDIN);
my $tasks = 1;
while ($tasks < 100 and defined(my $child = fork)) {{
    sleep unless $child;
    $tasks++;
}}
sleep if $tasks != {TASKS};
my $size = 300_000_000;
my $leak = "x" x $size;
sleep;
"""

# At boot apply has two minutes, of a machine that is not emulated.
SLOW = "[Service]\nTimeoutStartSec=15min\n"

# First with what is in the place of QGIS Server, then with that itself, which needs more.
BEYOND_MEMORY = f"""
mv {PROGRAM}.leak {PROGRAM}
systemctl restart qgis-server.target
fetch "$map"
ended 2
echo '{GENEROUS}' >/etc/qgis-server/server.toml
qgis-serverctl apply >&2
mv {PROGRAM}.real {PROGRAM}
systemctl restart qgis-server.target
fetch "$map"
fetch "$map&FAULT=leak&MB=900"
fetch "$map"
ended 4
"""


def script() -> str:
    """What each boot runs: it begins where the one before has lost its power."""
    cases = "".join(
        f"{stage}) lose_power_at {at} qgis-serverctl scale {count} ;;\n"
        for stage, (at, count) in enumerate(CUTS)
    )
    return f"""
set -eu
map='{MAP}'
stage=$(cat /root/stage 2>/dev/null || echo 0)

lose_power_at() {{
    step=$1
    shift
    echo $((stage + 1)) >/root/stage
    sync
    POWER_LOST_AT=$step PYTHONPATH={FOLDER} "$@" >&2
    echo "the power was not lost"
    exit 1
}}
# As often as a request is tried: the journal has the last one a moment after the reply.
ended() {{
    for _ in $(seq 60); do
        told=$(journalctl --quiet --no-pager --output=cat)
        # It fails where it counts none, and prints 0.
        count=$(echo "$told" | grep -c "Failed with result 'oom-kill'") || true
        [ "$count" -lt "$1" ] || break
        sleep 1
    done
    echo "$count"
}}
fetch() {{ curl --silent --output /dev/null --max-time 600 --write-out '%{{http_code}}\\n' "$1"; }}

if [ "$stage" = 0 ]; then
{CORES}
    # Here workers take longer to come up than apply waits for them: NGINX is to name all.
    qgis-serverctl apply >&2
else
    python3 {FOLDER}/look.py
fi
case $stage in
{cases}esac
{BEYOND_MEMORY}
ss -lxH | grep -c '/run/qgis-server-[0-9]'
"""


@pytest.mark.long
def test_cores_a_worker_beyond_its_memory_and_power_that_is_lost(
    installed: Snapshot, suite: str
) -> None:
    """Installed on a machine with another count, then booted on four cores. The power is lost
    twice, each time with a boot after it."""
    with Testbed(suite, like=installed) as bed:
        bed.put(SHARED / "faulty_plugin", "/usr/share/qgis/python/plugins/")
        folder = bed.root / FOLDER.lstrip("/")
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(POWER)
        (folder / "look.py").write_text(LOOK)
        bed.chroot("cp", "-a", PROGRAM, f"{PROGRAM}.real")
        quick_workers(bed)
        bed.chroot("cp", "-a", PROGRAM, f"{PROGRAM}.leak")
        (bed.root / f"{PROGRAM}.leak".lstrip("/")).write_text(LEAK)
        (bed.root / "etc/qgis-server/server.toml").write_text(TIGHT)
        bed.chroot("qgis-serverctl", "site", "enable")
        slow = bed.root / "etc/systemd/system/qgis-server-apply.service.d/slow.conf"
        slow.parent.mkdir()
        slow.write_text(SLOW)
        machine = Machine(bed.root, cpus=4, reboots=True)
        status, output = machine.run_script(script(), timeout=2400)
    assert status == 0, output
    counts, _, rest = output.partition("{")
    # All four; a quota of 1.5 rounded up; a cpuset of three; half a core for an ancestor; and
    # nothing of what the caller's shell is limited to. Then the weight of heavy requests.
    assert counts.split() == ["4", "2", "3", "1", "4", "10"]
    decoder = json.JSONDecoder()
    found, at = decoder.raw_decode("{" + rest)
    assert found["cores"] == {"affinity": 4, "cpuset": 4, "quota": None, "count": 4}
    lines = rest[at - 1 :].split("\n")[1:]
    left = after_cuts(lines)
    # Each was tried once more, and no third time.
    assert lines[len(CUTS) :][:7] == ["502", "2", "200", "502", "200", "4", str(left)]


def after_cuts(lines: list[str]) -> int:
    """Either all of it has happened, or nothing; returns the number of instances."""
    former = 4
    for (_, count), line in zip(CUTS, lines, strict=False):
        seen = json.loads(line)
        now: int = seen["wanted"].get("instances", 4)
        assert now in (former, count), seen
        everyone = list(range(1, now + 1))
        assert seen["links"] == seen["target"] == everyone, seen
        assert seen["state"] == [everyone, []], seen
        assert seen["sockets"] == seen["upstream"] == everyone, seen
        assert (seen["nginx"], seen["left"]) == (0, []), seen
        former = now
    return former
