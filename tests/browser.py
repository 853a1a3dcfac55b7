"""Chromium without a window, driven over the DevTools protocol: pages as people's browsers run them.

Nothing waits for time: `until` asks again whenever the page has changed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
AXE = (
    Path(os.environ.get("AXE", ROOT / ".venv/axe-core-4.14.1")) / "node_modules/axe-core/axe.min.js"
)
CHROMIUM = shutil.which("chromium") or ""
PATIENCE = 30.0
"""Seconds after which what a page should do has not happened."""
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-default-apps", "--metrics-recording-only", "--mute-audio",
    "--hide-scrollbars", "--force-color-profile=srgb", "--font-render-hinting=none",
    "--remote-debugging-port=0",
)  # fmt: skip


class Chromium:
    """The browser's process. Raises AssertionError when it does not start."""

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={self._home.name}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env={**os.environ, "HOME": self._home.name}, start_new_session=True,
        )  # fmt: skip
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            found = re.search(rb"DevTools listening on (ws://\S+)", line)
            if found:
                self.address = found[1].decode()
                return
        raise AssertionError(b"".join(said).decode(errors="replace"))

    def close(self) -> None:
        self._process.terminate()
        _, _ = self._process.communicate(timeout=30)
        self._home.cleanup()


class Browser:
    """A connection to it, with a profile of its own: cookies are no other test's."""

    def __init__(self, chromium: Chromium) -> None:
        self._address = chromium.address
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._pages: dict[str, Page] = {}

    async def __aenter__(self) -> Browser:
        self._client = aiohttp.ClientSession()
        self._socket = await self._client.ws_connect(self._address, max_msg_size=0)
        self._reading = asyncio.create_task(self._read())
        made = await self.ask("Target.createBrowserContext")
        self._context = made["browserContextId"]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.ask("Target.disposeBrowserContext", browserContextId=self._context)
        await self._socket.close()
        await self._reading
        await self._client.close()

    async def ask(self, method: str, session: str = "", **params: Any) -> Any:
        """Return the answer to a command. Raises AssertionError for an error."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        message = {"id": self._number, "method": method, "params": params}
        await self._socket.send_json(message | ({"sessionId": session} if session else {}))
        async with asyncio.timeout(PATIENCE):
            return await answer

    async def page(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """Open an empty page of this size and scheme of colours."""
        made = await self.ask(
            "Target.createTarget", url="about:blank", browserContextId=self._context
        )
        attached = await self.ask("Target.attachToTarget", targetId=made["targetId"], flatten=True)
        page = Page(self, attached["sessionId"])
        self._pages[attached["sessionId"]] = page
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.ask(f"{domain}.enable")
        await page.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await page.ask("Emulation.setEmulatedMedia", features=[scheme])
        return page

    async def _read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                answer = self._answers.pop(said["id"])
                if answer.done():
                    continue
                if "error" in said:
                    answer.set_exception(AssertionError(said["error"]))
                else:
                    answer.set_result(said["result"])
            elif said.get("sessionId") in self._pages:
                self._pages[said["sessionId"]].heard(said["method"], said["params"])


class Page:
    """One page. errors: what its console has to complain about. requests: every URL it asked
    for."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.errors: list[str] = []
        self.requests: list[str] = []

    async def ask(self, method: str, **params: Any) -> Any:
        return await self._browser.ask(method, self._session, **params)

    def heard(self, method: str, said: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "assert"):
            self.errors.append(str([one.get("value") for one in said["args"]]))

    async def open(self, url: str) -> None:
        """Go to an address; return when its application says that it shows something."""
        await self.ask("Page.navigate", url=url)
        await self.until(
            "document.documentElement?.dataset.ready || document.querySelector('main form')"
        )

    async def run(self, script: str) -> Any:
        """Return the value of an expression, awaited if it is a promise."""
        said = await self.ask(
            "Runtime.evaluate",
            expression=script, awaitPromise=True, returnByValue=True, userGesture=True,
        )  # fmt: skip
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def until(self, condition: str) -> Any:
        """Wait until an expression is true; return its value. Another page may come meanwhile."""
        script = _WAITING.replace("CONDITION", condition)
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        return await self.run(script)
                    except AssertionError as error:
                        if not any(one in str(error) for one in _GONE):
                            raise
        except TimeoutError:
            seen = f"{await self.text()}\n{self.errors}"
            raise AssertionError(f"never: {condition}\nthe page: {seen}") from None

    async def text(self) -> str:
        return str(await self.run("document.body.innerText"))

    async def click(self, selector: str, text: str = "") -> None:
        """Click the element of a selector, with this text in it, as soon as it is there."""
        await self.until(_element(selector, text))
        await self.run(f"{_element(selector, text)}.click()")

    async def type(self, selector: str, text: str) -> None:
        """Write into a field as a person does."""
        await self.until(_element(selector, ""))
        await self.run(f"{_element(selector, '')}.focus()")
        await self.ask("Input.insertText", text=text)

    async def press(self, key: str) -> None:
        """Press a key: Tab, Enter, Escape."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self.ask(
                "Input.dispatchKeyEvent",
                type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key],
                **(text if kind == "keyDown" else {}),
            )  # fmt: skip

    async def resize(self, width: int, height: int) -> None:
        await self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    async def violations(self) -> list[str]:
        """Return what axe-core finds wrong with the page as it is."""
        if not await self.run("!!window.axe"):
            await self.run(AXE.read_text("utf-8") + "; true")
        found = await self.run(
            "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)"
        )
        return [
            f"{one['id']}: {one['help']}: {node['html'][:160]} {node['failureSummary']}"
            for one in found
            for node in one["nodes"]
        ]

    async def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        return int(
            await self.run(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )

    async def picture(self, path: Path) -> None:
        """Write what the page shows to a PNG."""
        height = await self.run("Math.ceil(document.body.getBoundingClientRect().height)")
        width = await self.run("innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        said = await self.ask("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(said["data"]))


_WAITING = """new Promise(done => {
  const watch = new MutationObserver(look);
  function look() {
    const found = (CONDITION);
    if (!found) return;
    watch.disconnect();
    done(typeof found === "object" ? true : found);
  }
  watch.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
  look();
})"""
_GONE = (
    "Execution context was destroyed",
    "Cannot find default execution context",
    "Inspected target navigated",
)
"""How errors begin of a script whose page has been left meanwhile."""


def _element(selector: str, text: str) -> str:
    found = f"[...document.querySelectorAll({json.dumps(selector)})]"
    return f"{found}.find(one => one.textContent.includes({json.dumps(text)}))"
