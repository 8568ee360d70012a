# SPDX-License-Identifier: GPL-2.0-or-later
"""All contestants in one container, in turns: how a round goes, and what is done with it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.pool import wait_for
from testbed import Testbed
from testbed.layers import say

import qgis_server_systemd
from bench import contestants, weights, workloads
from bench.clock import Clock
from bench.contestants import Contestant, Unavailable
from bench.inside.drive import Group, Request, Result, Sent, Spec
from bench.report import Round, of_round, summary
from bench.workloads import RATE, RECIPE, SHARE, Given, Workload

LIBRARY = "/root/bench"
STATIC = 8100
"""The port on which NGINX sends a file, to measure the load generator itself."""
WARM_UP = 1.0
"""Seconds; so that each worker has loaded the project before anything is measured."""
CALIBRATION = 3.0
SETUP = 25.0
TURN = 6.0
"""Seconds of what comes before all turns, about, and of a turn besides its workloads."""


@dataclass(frozen=True)
class Options:
    """What is measured, and for how long; `seconds` is for each workload, None what it says
    itself."""

    workers: int = 4
    rounds: int = 5
    seconds: float | None = None
    contestants: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()


def prepare(bed: Testbed) -> None:
    """Put the load generator into a booted container with the package and NGINX."""
    for package in (Path(__file__).parent, Path(qgis_server_systemd.__file__).parent):
        bed.put(package, f"{LIBRARY}/")


def inside(bed: Testbed, module: str, spec: dict[str, Any], *, timeout: float) -> dict[str, Any]:
    """What a program of bench.inside has found, given this."""
    done = bed.out(
        "python3",
        "-m",
        f"bench.inside.{module}",
        input=json.dumps(spec),
        env={"PYTHONPATH": LIBRARY, "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=timeout,
    )
    found: dict[str, Any] = json.loads(done)
    return found


def drive(bed: Testbed, spec: Spec) -> Result:
    """Run the load inside the container."""
    found = inside(bed, "drive", dataclasses.asdict(spec), timeout=600)
    return Result(sent=[Sent(**one) for one in found.pop("sent")], **found)


def command_of(contestant: Contestant, workload: Workload) -> str:
    """What runs before or under the load."""
    if workload.first:
        return contestant.start
    if workload.after == "start":
        return f"{contestant.stop}; {contestant.start}"
    return contestant.restart if workload.restarts or workload.after else ""


def spec_of(
    contestant: Contestant,
    workload: Workload,
    options: Options,
    rate: float = RATE,
    number: int = 1,
) -> Spec:
    """`rate`: of light requests that come at one, the same ones for all in a round, by its
    `number`."""
    command = command_of(contestant, workload)
    return Spec(
        contestant.port,
        workload.groups(Given(contestant.path, options.workers, rate, number)),
        workload.seconds if options.seconds is None else options.seconds,
        command=contestants.quoted(command) if command else [],
        first=workload.first,
        ready=options.workers if workload.after else 0,
        enough=workload.enough if options.seconds is None else 0,
        replaced=contestant.replaced if workload.restarts else "",
        sockets=list(contestant.sockets),
        program=contestant.program,
        apart=contestant.apart,
    )


def warm_up(bed: Testbed, contestant: Contestant, workers: int) -> None:
    """Until each worker has served all kinds of requests, and each has answered well."""
    base = contestant.path
    # Those for heavy requests alone may start with the first one.
    heavy = Group(2 * workers, [*workloads.heavy(base), *workloads.prints(base)])
    drive(bed, Spec(contestant.port, [heavy], 0))
    drive(bed, Spec(contestant.port, [Group(2 * workers, workloads.replay(base))], WARM_UP))
    one_each = {request.kind: request for request in workloads.replay(base)}
    kinds = [*one_each.values(), *workloads.light(base)[:1]]
    kinds += [*workloads.heavy(base), *workloads.prints(base)]
    for sent in drive(bed, Spec(contestant.port, [Group(1, [one]) for one in kinds], 0)).sent:
        if sent.problem:
            raise Unavailable(f"its reply to a request for {sent.kind} is bad: {sent.problem}")


def light_rate(
    bed: Testbed, ready: Iterable[Contestant], tasks: Iterable[Workload], options: Options
) -> float | None:
    """At which rate light requests come in this run: a share of what the recipe draws alone, so
    that all are asked for the same. None if the recipe has no part in it, or none come at one."""
    recipe = next((one for one in ready if one.name == RECIPE), None)
    at_one = any(group.rate for task in tasks for group in task.groups(Given("?")))
    if recipe is None or not at_one:
        return None
    try:
        contestants.shell(bed, recipe.start)
        warm_up(bed, recipe, options.workers)
        spec = Spec(recipe.port, workloads.tiles(4)(Given(recipe.path)), CALIBRATION)
        return round(SHARE * of_round(drive(bed, spec)).rate, 1) or None
    except (Unavailable, AssertionError):
        return None  # it is told when its first turn comes
    finally:
        contestants.shell(bed, recipe.stop)


def calibrate(bed: Testbed, seconds: float) -> float:
    """Requests a second that the generator gets when a file of a tile's size is all that is
    asked for."""
    tile = workloads.light("/qgis-server?")[0]
    found = bed.fetch(f"http://127.0.0.1{tile.path}")
    contestants.put(bed, "/srv/bench/tile.txt", "x" * len(found.body))
    contestants.put(
        bed,
        "/etc/nginx/sites-enabled/bench",
        f"server {{ listen {STATIC}; root /srv/bench; default_type text/plain; }}\n",
    )
    bed.run("systemctl", "reload", "nginx")
    clients = [Group(4, [Request("file", "/tile.txt", "text/plain")])]
    wait_for(
        lambda: not any(one.problem for one in drive(bed, Spec(STATIC, clients, 0)).sent),
        "NGINX sends the file",
    )
    return of_round(drive(bed, Spec(STATIC, clients, seconds))).rate


def chosen(options: Options) -> tuple[list[Contestant], list[Workload]]:
    """Those that the options name, or all. A workload that is named has a part in all rounds."""

    def pick(there: Iterable[Any], names: Sequence[str]) -> list[Any]:
        return [one for one in there if not names or one.name in names]

    tasks = pick(workloads.WORKLOADS, options.workloads)
    if options.workloads:
        tasks = [dataclasses.replace(task, every=1) for task in tasks]
    return pick(contestants.contestants(options.workers), options.contestants), tasks


def install_all(
    bed: Testbed, there: Iterable[Contestant], workers: int, missing: dict[str, str]
) -> list[Contestant]:
    """Install contestants; none of them runs afterwards. Notes why one can't take part."""
    ready = []
    for contestant in there:
        try:
            contestants.install(bed, contestant, workers)
            ready.append(contestant)
        except Unavailable as error:
            missing[contestant.name] = str(error)
    bed.run("systemctl", "daemon-reload")
    bed.run("nginx", "-t")
    bed.run("systemctl", "reload-or-restart", "nginx")
    for contestant in ready:
        contestants.shell(bed, contestant.stop)
    return ready


@dataclass(frozen=True)
class Turn:
    """One contestant's part in a round."""

    number: int
    contestant: Contestant
    tasks: list[Workload]

    @property
    def expected(self) -> float:
        """Seconds that it takes, about."""
        return TURN + sum(task.expected for task in self.tasks)


def schedule(there: Iterable[Contestant], tasks: Sequence[Workload], rounds: int) -> Iterator[Turn]:
    """All turns: in each round one of each contestant that has anything to do in it."""
    there = list(there)
    for number in range(1, rounds + 1):
        for one in there:
            wanted = [
                task
                for task in tasks
                if task.takes_part(number, one.name) and (not one.only or task.name in one.only)
            ]
            if wanted and number <= one.rounds:
                yield Turn(number, one, wanted)


def expected(options: Options) -> float:
    """Seconds that all of it takes, about."""
    return SETUP + sum(one.expected for one in schedule(*chosen(options), options.rounds))


def turn(bed: Testbed, one: Turn, options: Options, rate: float) -> tuple[dict[str, Round], str]:
    """All workloads of one contestant, from its start to its stop; and what became of the weights
    of its units."""
    found = {}
    contestant = one.contestant
    try:
        if contestant.before:
            contestants.shell(bed, contestant.before)
        with weights.in_force(bed) as state:
            # A contestant takes requests some time after its start: the first one shows when.
            begin = of_round(drive(bed, spec_of(contestant, workloads.FIRST, options)))
            if all(of.failed and not of.rate for of in begin.kinds.values()):
                raise Unavailable(f"no reply after its start: {', '.join(begin.problems)}")
            warm_up(bed, contestant, options.workers)
            for workload in one.tasks:
                if workload.first:
                    found[workload.name] = begin
                else:
                    spec = spec_of(contestant, workload, options, rate, one.number)
                    found[workload.name] = of_round(drive(bed, spec))
    finally:
        contestants.shell(bed, contestant.stop)
    return found, state.text


def compare(
    bed: Testbed,
    options: Options,
    progress: Callable[[str], None] = say,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Rounds of all chosen contestants and workloads in a booted container that has the
    package and NGINX. What comes back is for report.py and for JSON. `clock`: of all that
    there is to do, if that is more."""
    clock = clock or Clock(expected(options))
    prepare(bed)
    there, tasks = chosen(options)
    missing: dict[str, str] = {}
    ready = install_all(bed, there, options.workers, missing)
    rounds: dict[str, dict[str, list[Round]]] = {task.name: {} for task in tasks}
    generator: float | None = None
    rate = light_rate(bed, ready, tasks, options)
    forces: dict[str, str] = {}
    clock.done(SETUP)
    for one in schedule(ready, tasks, options.rounds):
        name = one.contestant.name
        # It may have failed in a round before.
        if name not in missing:
            what = ", ".join(task.name for task in one.tasks)
            left = clock.left()
            progress(f"round {one.number} of {options.rounds}, {left} left: {name}: {what}")
            try:
                measured, forces[name] = turn(bed, one, options, rate or RATE)
                for task, found in measured.items():
                    numbered = dataclasses.replace(found, number=one.number)
                    rounds[task].setdefault(name, []).append(numbered)
            except (Unavailable, AssertionError) as error:
                # What fails in a later round failed under load: it is told all the same.
                missing[name] = f"round {one.number}: {str(error)[:500]}"
        clock.done(one.expected)
    ready = [one for one in ready if one.name not in missing]
    mine = next((one for one in ready if one.ours), None)
    if mine is not None:
        try:
            contestants.shell(bed, mine.start)
            warm_up(bed, mine, options.workers)
            generator = calibrate(bed, min(options.seconds or CALIBRATION, CALIBRATION))
        except (Unavailable, AssertionError) as error:
            # What was measured before has taken too long to be lost by it.
            missing["the load generator"] = str(error)[:500]
        finally:
            contestants.shell(bed, mine.stop)
    return {
        "workers": options.workers,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "missing": missing,
        "generator_rate": generator,
        "light_rate": rate or RATE,
        "light_rate_of": RECIPE if rate else "",
        "weights": forces,
        "titles": {task.name: task.title for task in tasks},
        "contestants": {one.name: contestants.described(one) for one in there},
        "workloads": {
            name: {
                contestant: summary(there) | {"rounds": [dataclasses.asdict(one) for one in there]}
                for contestant, there in by.items()
            }
            for name, by in rounds.items()
        },
    }
