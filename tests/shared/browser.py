# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's Chromium in a testbed, driven over the WebDriver protocol (w3.org/TR/webdriver2)."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from testbed import Testbed

from .pool import wait_for

PORT = 9515
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""What the protocol calls an element."""

TAB = "\ue004"
ENTER = "\ue007"
CONTROL = "\ue009"


class Driver:
    """chromedriver, as a service of the testbed."""

    def __init__(self, bed: Testbed) -> None:
        bed.run(
            "systemd-run", "--quiet", "--unit=chromedriver", "--collect",
            "--setenv=HOME=/root", "chromedriver", f"--port={PORT}",
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{bed.forward(f'127.0.0.1:{PORT}')}"
        wait_for(self.is_ready, "chromedriver is ready")

    def is_ready(self) -> bool:
        try:
            return bool(self.ask("GET", "/status")["ready"])
        except OSError:
            return False

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            raise AssertionError(f"{path}: {value['error']}: {value['message']}") from None


class Browser:
    """One window, with nothing in it that another one has left."""

    def __init__(self, driver: Driver, session: str) -> None:
        self.driver = driver
        self.path = f"/session/{session}"

    def ask(self, method: str, path: str, **body: Any) -> Any:
        return self.driver.ask(method, self.path + path, body)

    def open(self, url: str) -> None:
        self.ask("POST", "/url", url=url)

    def js(self, script: str, *args: Any) -> Any:
        """What a function body returns; a promise is waited for."""
        return self.ask("POST", "/execute/sync", script=script, args=args)

    def wait(self, script: str, what: str) -> None:
        wait_for(lambda: bool(self.js(script)), what, 60)

    def element(self, css: str) -> str:
        found: str = self.ask("POST", "/element", using="css selector", value=css)[ELEMENT]
        return found

    def click(self, css: str) -> None:
        self.ask("POST", f"/element/{self.element(css)}/click")

    def type(self, css: str, text: str) -> None:
        self.ask("POST", f"/element/{self.element(css)}/value", text=text)

    def press(self, *keys: str, held: str = "") -> None:
        """Where the focus is."""
        actions = [
            {"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")
        ]  # fmt: skip
        if held:
            down, up = ({"type": kind, "value": held} for kind in ("keyDown", "keyUp"))
            actions = [down, *actions, up]
        self.ask("POST", "/actions", actions=[{"type": "key", "id": "k", "actions": actions}])

    def texts(self, css: str) -> list[str]:
        found: list[str] = self.js(
            "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)", css
        )
        return found

    def picture(self) -> bytes:
        """What is seen, as WebP."""
        command = {"cmd": "Page.captureScreenshot", "params": {"format": "webp", "quality": 80}}
        return base64.b64decode(self.ask("POST", "/goog/cdp/execute", **command)["data"])

    def log(self, kind: str) -> list[dict[str, Any]]:
        """What has been logged since the last time."""
        found: list[dict[str, Any]] = self.ask("POST", "/se/log", type=kind)
        return found

    def asked(self) -> list[str]:
        """URLs that pages have asked for since the last time."""
        events = [json.loads(one["message"])["message"] for one in self.log("performance")]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """What a developer would see in red, such as a violation of the policy for contents."""
        return [one["message"] for one in self.log("browser") if one["level"] == "SEVERE"]


@contextmanager
def browser(
    driver: Driver, *, language: str = "en", width: int = 1200, dark: bool = False
) -> Iterator[Browser]:
    args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    options = {
        "args": [*args, f"--window-size={width},900", *["--force-dark-mode"] * dark],
        "prefs": {"intl.accept_languages": language},
    }
    wanted = {
        "browserName": "chrome",
        "goog:chromeOptions": options,
        "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
    }
    session = driver.ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
    window = Browser(driver, session["sessionId"])
    try:
        yield window
    finally:
        window.ask("DELETE", "")


def hosts(urls: list[str]) -> set[str]:
    return {urlsplit(url).netloc for url in urls}
