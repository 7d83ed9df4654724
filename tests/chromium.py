"""A real Chromium, driven over its own protocol: pages opened at a size and in a look, and questions asked of them."""

import asyncio
import contextlib
import importlib.util
import json
import shutil
import tempfile
from pathlib import Path

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0", "--hide-scrollbars",
)  # fmt: skip


def browser():
    """Return the path of a Chromium, None where there is none."""
    return next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if b), None)


def axe():
    """Return axe-core's source, from a Python package or beside this checkout's node_modules; None without one.

    axe-core is MPL-2.0 of Deque Systems; it is never copied into this repository.
    """
    places = [Path(__file__).parents[1] / "node_modules/axe-core/axe.min.js"]
    for package in ("axe_playwright_python", "axe_core_python"):
        found = importlib.util.find_spec(package)
        places += [Path(found.origin).with_name("axe.min.js")] if found and found.origin else []
    return next((place.read_text(encoding="utf-8") for place in places if place.is_file()), None)


class Tab:
    """One tab. `said`: what its console, its exceptions and its network complained of."""

    def __init__(self, socket):
        self.socket, self.waiting, self.number, self.said = socket, {}, 0, []
        self.loaded = asyncio.Event()
        self.listener = asyncio.ensure_future(self.listen())

    async def listen(self):
        async for message in self.socket:
            told = json.loads(message.data)
            if "id" in told:
                self.waiting.pop(told["id"]).set_result(told)
            elif told["method"] == "Page.loadEventFired":
                self.loaded.set()
            elif told["method"] == "Runtime.exceptionThrown":
                details = told["params"]["exceptionDetails"]
                self.said.append(details.get("exception", {}).get("description") or details["text"])
            elif told["method"] == "Log.entryAdded" and told["params"]["entry"]["level"] in ("error", "warning"):
                self.said.append(told["params"]["entry"]["text"])
            elif told["method"] == "Runtime.consoleAPICalled" and told["params"]["type"] in ("error", "warning"):
                self.said.append(str(told["params"]["args"]))

    async def ask(self, method, **params):
        self.number += 1
        self.waiting[self.number] = answer = asyncio.get_running_loop().create_future()
        await self.socket.send_str(json.dumps({"id": self.number, "method": method, "params": params}))
        told = await asyncio.wait_for(answer, 60)
        assert "error" not in told, told["error"]
        return told["result"]

    async def open(self, address, width=1200, dark=False):
        """Open an address at a width, light or dark."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        await self.ask(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )  # fmt: skip
        self.loaded.clear()
        await self.ask("Page.navigate", url=address)
        await asyncio.wait_for(self.loaded.wait(), 60)

    async def run(self, script):
        """Return what a piece of JavaScript gives; a promise is waited for."""
        told = await self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")


@contextlib.asynccontextmanager
async def tab():
    """Yield a tab of a fresh browser that ends with it."""
    import aiohttp

    # the browser's helper processes may write into its profile for a moment after it has ended
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        process = await asyncio.create_subprocess_exec(
            browser(), *QUIET, f"--user-data-dir={home}", "about:blank",
            stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            port = Path(home) / "DevToolsActivePort"
            for _ in range(600):
                if port.is_file() and len(port.read_text().split()) == 2:
                    break
                await asyncio.sleep(0.1)
            number = port.read_text().split()[0]
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{number}/json/list") as answer:
                    target = next(t for t in await answer.json(content_type=None) if t["type"] == "page")
                async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    opened = Tab(socket)
                    for domain in ("Page", "Runtime", "Log"):
                        await opened.ask(f"{domain}.enable")
                    yield opened
                    opened.listener.cancel()
        finally:
            process.terminate()
            await process.wait()
