# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers given to debconf. Its database is no registry: an answer counts when it
is new, and from then on what the administrator does to the server."""

import argparse
import json

from ..config.stored import parse, remember
from ..front import site
from ..pool.host import Host
from ..pool.lock import locked
from ..pool.settings import auto_file, is_overruled, load_settings
from ..system.files import read_or_none, write
from ..system.output import Failure, die, tell, warn
from . import apply

DEFAULTS = {"instances": "auto", "site": "false"}
"""The questions, with the defaults of their templates."""


def _file(host: Host) -> str:
    return f"{host.package.state}/debconf.json"


def followed(host: Host) -> dict[str, str]:
    """The answers that were followed last."""
    file = host.path(_file(host))
    text = read_or_none(file)
    if text is None:
        return DEFAULTS
    try:
        values = json.loads(text)
        return {key: str(values[key]) for key in DEFAULTS}
    except (ValueError, KeyError, TypeError):
        die(f"{file}: is damaged", hint="delete it: debconf's answers then count as new")


def present(host: Host, key: str) -> str:
    """What the server would answer itself."""
    if key == "instances":
        return str(load_settings(host).settings.instances)
    return "true" if site.enabled_link(host) or site.is_wanted(host) else "false"


def check(key: str, answer: str) -> str:
    """Raises Failure where the answer is none."""
    if key == "instances":
        return str(parse("instances", answer, "debconf"))
    if answer not in ("true", "false"):
        die(f"debconf: {key} = {answer} is neither true nor false")
    return answer


def proposal(host: Host, args: argparse.Namespace) -> int:
    """For the config script: the answer to start from, given the one that debconf
    has. That one stands only if it is newer than what was followed, as when it
    was preseeded again."""
    key, answer = args.question, args.answer
    try:
        newer = check(key, answer) != followed(host)[key]
    except Failure:
        newer = False
    tell(answer if newer else present(host, key))
    return 0


def follow(host: Host, answers: dict[str, str], asked: list[str]) -> str | None:
    """Do what the new ones among the answers say; the caller holds the lock.

    `asked`: answers to a question that showed the present value, so that any other
    one is new. Returns a number of instances that apply shall enforce.
    """
    last, number = followed(host), None
    for key, answer in answers.items():
        if (answer == last[key] and key not in asked) or answer == present(host, key):
            continue
        match key, answer:
            case "instances", _:
                remember(auto_file(host), "instances", parse("instances", answer, "debconf"))
                if not is_overruled(host, "instances"):
                    number = answer
            case "site", "true":
                site.want(host)
            case _:
                try:
                    site.disable(host)
                except (Failure, OSError) as error:
                    warn(f"NGINX site: {error}")
    write(host.path(_file(host)), json.dumps({**last, **answers}) + "\n")
    return number


def command(host: Host, args: argparse.Namespace) -> int:
    """``apply``, and before it what debconf was told, and after it what waits for NGINX."""
    answers = {}
    for pair in args.answer:
        key, _, answer = pair.partition("=")
        try:
            answers[key] = check(key, answer)
        except Failure as error:
            warn(f"{error}; it is ignored")
    if answers:
        with locked(host):
            args.instances = follow(host, answers, args.asked)
    status = apply.command(host, args)
    if status == 0 and not args.dry_run:
        site.enable_wanted(host, again=bool(args.answer))
    return status
