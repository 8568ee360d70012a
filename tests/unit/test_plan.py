# SPDX-License-Identifier: GPL-2.0-or-later
"""The plan: settings and facts in, actions out."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared.planning import DROPIN, NGINX, UPSTREAM, WANTED, machine, numbers, upstream

from qgis_server_systemd.qgis_serverctl.pool import instances as front_instances
from qgis_server_systemd.qgis_serverctl.pool.instances import Instances
from qgis_server_systemd.qgis_serverctl.pool.roll_state import Rolling
from qgis_server_systemd.qgis_serverctl.reconcile import plan


def test_a_new_server_gets_an_instance_for_each_core() -> None:
    steps = plan.make(WANTED, machine(cores=2))
    assert list(map(str, steps.actions)) == [
        "enable instance 1 unless a preset says no",
        "enable instance 2 unless a preset says no",
        "make systemd read its units",
        "start instance 1",
        "start instance 2",
        "write NGINX's upstream: 1, 2",
        "reload NGINX, if nginx -t passes",
    ]


def test_nothing_to_do_on_a_server_in_order() -> None:
    assert plan.make(WANTED, machine(numbers(1, 2))).actions == ()


@pytest.mark.parametrize(("wanted", "runs"), [(True, False), (False, True)])
def test_the_watch_over_the_cache_runs_where_there_is_one(wanted: bool, runs: bool) -> None:
    facts = replace(machine(numbers(1, 2)), caching=runs)
    steps = plan.make(replace(WANTED, caches=wanted), facts)
    assert steps.actions == (plan.RunCache(wanted),)


def test_replies_of_another_user_are_thrown_away() -> None:
    """NGINX could not read them, and would answer with errors."""
    changed = replace(machine(numbers(1, 2)), nginx=replace(NGINX, bars_replies=True))
    assert plan.make(WANTED, changed).actions == (plan.EmptyReplies(),)


def test_what_counts_runs_before_nginx_tells_it_anything() -> None:
    facts = replace(machine(numbers(1, 2)), counting=False)
    wanted = replace(WANTED, nginx_files=lambda *_: {"/etc/nginx/new.conf": "new"})
    kinds = [type(action) for action in plan.make(wanted, facts).actions]
    assert kinds == [plan.StartCounting, plan.WriteUpstream, plan.ReloadNginx]


@pytest.mark.parametrize(("wanted", "runs"), [(True, False), (False, True)])
def test_the_list_of_the_front_page_is_kept_where_there_is_one(wanted: bool, runs: bool) -> None:
    facts = replace(machine(numbers(1, 2)), lists=runs)
    steps = plan.make(replace(WANTED, lists=wanted), facts)
    assert steps.actions == (plan.RunFront(wanted),)


@pytest.mark.parametrize(("wanted", "runs"), [(True, False), (False, True)])
def test_somebody_is_told_of_findings_where_a_setting_says_who(wanted: bool, runs: bool) -> None:
    facts = replace(machine(numbers(1, 2)), notifies=runs)
    steps = plan.make(replace(WANTED, notifies=wanted), facts)
    assert steps.actions == (plan.RunNotify(wanted),)


def test_without_systemd_instances_are_enabled_and_nothing_is_started() -> None:
    still = replace(NGINX, running=False)
    steps = plan.make(WANTED, machine(live=False, nginx=still))
    kinds = {type(action) for action in steps.actions}
    assert kinds == {plan.Enable, plan.WriteUpstream}


def test_nginx_lets_go_of_an_instance_before_it_stops() -> None:
    steps = plan.make(WANTED, machine(numbers(1, 2, 3, 4), cores=2))
    assert steps.actions == (
        plan.WriteUpstream(numbers(1, 2)),
        plan.ReloadNginx(wait=True),
        plan.Retire(3),
        plan.Retire(4),
        plan.ReloadManager(),
    )


def test_a_cut_off_shrink_reloads_before_it_stops_the_rest() -> None:
    facts = replace(machine(numbers(1, 2, 3)), files={UPSTREAM: "1, 2", DROPIN: None})
    assert plan.make(WANTED, facts).actions == (
        plan.ReloadNginx(wait=True),
        plan.Retire(3),
        plan.ReloadManager(),
    )


def test_an_upgrade_never_shrinks_but_a_set_number_does() -> None:
    facts = machine(numbers(1, 2, 3, 4), cores=2)
    upgrade = replace(WANTED, maintainer=True)
    assert plan.make(upgrade, facts).actions == ()
    assert plan.Retire(4) in plan.make(replace(upgrade, count=3), facts).actions
    asked = plan.make(replace(upgrade, explicit=True), facts).actions
    assert [step for step in asked if isinstance(step, plan.Retire)] == [
        plan.Retire(3),
        plan.Retire(4),
    ]


def test_auto_asked_for_keeps_to_presets() -> None:
    steps = plan.make(replace(WANTED, explicit=True), machine(cores=1))
    assert plan.Enable(1, preset=True) in steps.actions


def test_an_upgrade_grows_with_the_cores() -> None:
    steps = plan.make(replace(WANTED, maintainer=True), machine(numbers(1, 2), cores=3))
    assert plan.Enable(3, preset=True) in steps.actions


def test_what_the_administrator_disabled_stays_so() -> None:
    facts = machine(numbers(1, 3), ours=numbers(1, 2, 3), cores=3)
    steps = plan.make(replace(WANTED, count=3, explicit=True), facts)
    assert steps.actions == ()
    assert steps.notes == ("left alone, disabled by hand: instance 2",)


def test_what_the_administrator_masked_stays_so_and_gets_no_request() -> None:
    steps = plan.make(WANTED, machine(numbers(1, 2), masked=numbers(2)))
    assert steps.actions == ()
    assert steps.serving == numbers(1)
    steps = plan.make(WANTED, machine(numbers(1), masked=numbers(2)))
    assert steps.actions == ()


def test_an_instance_beyond_the_count_enabled_by_hand_serves() -> None:
    steps = plan.make(WANTED, machine(numbers(1, 2, 9), ours=numbers(1, 2)))
    assert steps.actions == ()
    assert steps.serving == numbers(1, 2, 9)


def test_an_explicit_number_beats_presets() -> None:
    steps = plan.make(replace(WANTED, count=1, explicit=True), machine())
    assert steps.actions[0] == plan.Enable(1, preset=False)


def test_after_an_interruption_pending_instances_are_ours() -> None:
    cut_before_link = machine(numbers(1), ours=numbers(1), pending=numbers(2))
    assert plan.Enable(2, preset=True) in plan.make(WANTED, cut_before_link).actions
    cut_after_link = machine(numbers(1, 2), ours=numbers(1), pending=numbers(2))
    assert plan.make(WANTED, cut_after_link).actions == (plan.Adopt(2),)


def test_what_has_changed_on_disk_is_rolled_and_apt_does_not_wait_for_it() -> None:
    facts = machine(
        numbers(1, 2, 9), ours=numbers(1, 2), stale=numbers(1, 9), old_sockets=numbers(2)
    )
    change = plan.Roll(workers=numbers(1, 9), sockets=numbers(2))
    assert plan.make(WANTED, facts).actions == (change,)
    upgrade = replace(WANTED, maintainer=True)
    assert plan.make(upgrade, facts).actions == (plan.HandOver(change),)


def test_a_drained_instance_is_not_named_while_its_roll_lasts() -> None:
    under_way = Rolling(drained=numbers(1), spare=numbers(3), alive=True)
    facts = replace(machine(numbers(1, 2), stale=numbers(2)), rolling=under_way)
    facts = replace(facts, files={UPSTREAM: "2, 3", DROPIN: None})
    # A maintainer script leaves the rest to it; others wait for it.
    assert plan.make(replace(WANTED, maintainer=True), facts).actions == ()
    assert plan.make(WANTED, facts).actions == (plan.Roll(numbers(2), frozenset()),)


def test_what_a_killed_roll_left_behind_is_put_in_order() -> None:
    left = Rolling(drained=numbers(1), spare=numbers(2), alive=False)
    facts = replace(machine(numbers(1), cores=1), rolling=left)
    facts = replace(facts, files={UPSTREAM: "2", DROPIN: None})
    assert plan.make(WANTED, facts).actions == (
        plan.WriteUpstream(numbers(1)),
        plan.ReloadNginx(wait=True),
        plan.StopSpare(2),
    )


def test_another_user_of_nginx_gets_the_sockets() -> None:
    wanted = replace(WANTED, socket_user="nginx", dropins=((DROPIN, "text"),))
    steps = plan.make(wanted, machine(numbers(1, 2)))
    assert steps.actions == (
        plan.Write(DROPIN, "text"),
        plan.ReloadManager(),
        plan.GiveSocket(1, "nginx"),
        plan.GiveSocket(2, "nginx"),
        plan.GiveSocket(plan.FACTS, "nginx"),
    )


def linked(now: Instances, instance: int, *, shared: bool, on: bool = True) -> Instances:
    """With an instance enabled by the unit that its queue goes by, or not at all."""
    by_worker, by_socket = now.by_worker - {instance}, now.by_socket - {instance}
    if on and shared:
        by_worker |= {instance}
    elif on:
        by_socket |= {instance}
    return replace(now, by_worker=by_worker, by_socket=by_socket, enabled=by_worker | by_socket)


def test_workers_move_to_the_shared_queue_once_it_is_there() -> None:
    steps = plan.make(replace(WANTED, shared=True), machine(numbers(1, 2)))
    assert list(map(str, steps.actions)) == [
        "enable the shared socket",
        "enable instance 1 by its other unit",
        "enable instance 2 by its other unit",
        "make systemd read its units",
        "open the shared socket",
        "move to the shared queue, one after the other: 1, 2",
    ]


def test_a_shared_queue_shrinks_without_nginx() -> None:
    on = numbers(1, 2, 3)
    facts = machine(on, cores=2)
    now = replace(
        facts.instances,
        shared=on,
        by_worker=on,
        by_socket=numbers(),
        shared_enabled=True,
        shared_open=True,
    )
    facts = replace(facts, instances=now, files={UPSTREAM: "1, 2", DROPIN: None})
    steps = plan.make(replace(WANTED, shared=True), facts)
    assert steps.actions == (plan.Retire(3), plan.ReloadManager())


def after(facts: plan.Facts, steps: plan.Plan, *, shared: bool = False) -> plan.Facts:
    """The machine after a plan, were every step to succeed."""
    now, state, files, loaded = facts.instances, facts.state, dict(facts.files), facts.loaded
    for action in steps.actions:
        match action.what if isinstance(action, plan.HandOver) else action:
            case plan.Adopt(n):
                state = state.done(n, enabled=True)
            case plan.Enable(n, _):
                state = state.done(n, enabled=True)
                now = linked(now, n, shared=shared)
            case plan.Relink(n):
                assert n in now.enabled
                now = linked(now, n, shared=shared)
            case plan.EnableShared(on):
                now = replace(now, shared_enabled=on)
            case plan.StartShared():
                now = replace(now, shared_open=True)
            case plan.Start(n):
                assert now.shared_open or not shared, "a worker needs its socket"
                now = replace(now, listening=now.listening | {n})
                now = replace(now, shared=now.shared | {n}) if shared else now
            case plan.Roll(workers, sockets, moves):
                now = replace(
                    now,
                    stale=now.stale - workers - moves,
                    old_sockets=now.old_sockets - sockets - moves,
                    shared=now.shared | moves if shared else now.shared - moves,
                    shared_open=shared,
                    shared_old=False,
                )
            case plan.WriteUpstream(n):
                files |= upstream(n)
            case plan.ReloadNginx():
                loaded = True
            case plan.Retire(n):
                state = state.done(n, enabled=False)
                now = linked(now, n, shared=shared, on=False)
                now = replace(now, listening=now.listening - {n}, shared=now.shared - {n})
    return replace(facts, instances=now, state=state, files=files, loaded=loaded)


sets = st.frozensets(st.integers(1, 6))


@given(
    enabled=sets,
    ours=sets,
    masked=sets,
    pending=sets,
    listening=sets,
    cores=st.integers(1, 6),
    count=st.one_of(st.just("auto"), st.integers(1, 6)),
    maintainer=st.booleans(),
    told=sets,
    on_shared=sets,
    by_worker=sets,
    shared=st.booleans(),
    is_open=st.booleans(),
    is_old=st.booleans(),
)
def test_from_any_state_one_run_is_enough_and_respects_the_administrator(
    enabled: frozenset[int],
    ours: frozenset[int],
    masked: frozenset[int],
    pending: frozenset[int],
    listening: frozenset[int],
    cores: int,
    count: int | str,
    maintainer: bool,
    told: frozenset[int],
    on_shared: frozenset[int],
    by_worker: frozenset[int],
    shared: bool,
    is_open: bool,
    is_old: bool,
) -> None:
    pending -= ours  # an instance is noted either as ours or as about to be
    facts = replace(
        machine(enabled, ours=ours, masked=masked, pending=pending, cores=cores),
        instances=Instances(
            enabled,
            masked,
            listening,
            frozenset(),
            shared=on_shared & listening if is_open else frozenset(),
            by_worker=enabled & by_worker,
            by_socket=enabled - by_worker,
            shared_open=is_open,
            shared_old=is_open and is_old,
        ),
        files={UPSTREAM: front_instances.listed(told), DROPIN: None},
    )
    wanted = replace(WANTED, count=count, maintainer=maintainer, shared=shared)
    steps = plan.make(wanted, facts)
    end = after(facts, steps, shared=shared)
    assert plan.make(wanted, end).actions == ()
    # NGINX names exactly what is enabled and not masked, and all of that runs.
    assert end.files[UPSTREAM] == front_instances.listed(end.instances.enabled - masked)
    assert end.instances.enabled - masked <= end.instances.listening
    # Whatever runs of it is on the queue that the settings name, at the next boot as well.
    serve = end.instances.enabled - masked
    assert serve & end.instances.shared == (serve if shared else frozenset())
    assert serve <= (end.instances.by_worker if shared else end.instances.by_socket)
    assert end.instances.shared_enabled == end.instances.shared_open == shared
    # What is not ours is neither enabled nor disabled.
    by_hand = enabled - ours - pending
    assert by_hand <= end.instances.enabled
    assert not ((ours - enabled) & end.instances.enabled)
