"""The server of `steel ui`: who may ask, what an answer may do in a browser, and an error as a line.

Only this machine reaches it (127.0.0.1), only a request that names this machine as its host is answered (a page of
elsewhere cannot make the browser ask under its own name), and only under an address that begins with the token. It
reads, and nothing else. A page runs no script and loads nothing but its stylesheet; pages that other commands wrote
are shut off in a sandbox of their own.
"""

import secrets
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from steel_data.chinese import LANGUAGES, language
from steel_data.engine import tell
from steel_data.errors import InputError, first_line, one_line

HOSTS = ("127.0.0.1", "localhost", "[::1]")
_NOTHING_ELSE = "base-uri 'none'; frame-ancestors 'none'"
POLICY = f"default-src 'none'; style-src 'self'; form-action 'self'; {_NOTHING_ELSE}"
EXPORTED_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    f"img-src data:; form-action 'none'; {_NOTHING_ELSE}"
)
_TONGUE = "tongue"  # a cookie: the language that was chosen
HEADERS = {
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
}  # fmt: skip


def serve(root: Path, port: int) -> None:
    """Serve the pages of a folder until Ctrl-C; the address is printed once it answers.

    Raises InputError for a missing folder, a taken port, and where Starlette or uvicorn is not installed.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder. Fix: the folder that holds your runs, such as runs.")
    tell(f"opening {one_line(str(root))}, read-only, on this machine only; Ctrl-C ends it")
    token = secrets.token_urlsafe(18)
    try:
        import uvicorn

        app = application(root, token)
    except ImportError as error:
        raise InputError(f'steel ui needs {error.name}. Fix: pip install "steel-lab[ui]".') from None
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind(("127.0.0.1", port))
    except OSError as error:
        door.close()
        raise InputError(
            f"--port {port}: {error.strerror or error}. Fix: another --port, or 0 for a free one."
        ) from None
    print(f"http://127.0.0.1:{door.getsockname()[1]}/{token}/", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, server_header=False))
    try:
        server.run(sockets=[door])
    except KeyboardInterrupt:
        pass
    finally:
        door.close()
    tell("closed")


def application(root: Path, token: str) -> Any:
    """Return the ASGI application that shows `root` to who knows the token."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, PlainTextResponse, Response
    from starlette.routing import Route

    from steel.ui import views

    one_by_one = threading.Lock()  # one page at a time: memory is bounded

    def answer(request: Request) -> Response:
        if not _is_ours(request.headers.get("host", "")):
            return PlainTextResponse("this address is not served here\n", 421, HEADERS)
        first, _, path = request.path_params["path"].partition("/")
        if not secrets.compare_digest(first.encode(), token.encode()):
            return PlainTextResponse("no token: open the address that steel ui printed\n", 403, HEADERS)
        view, _, place = path.partition("/")
        chosen = request.query_params.get("lang", "")
        site = _site(request, root, token, path)
        headers = {**HEADERS, "Content-Security-Policy": POLICY}
        try:
            with one_by_one:
                if path == "style.css":
                    return Response(views.stylesheet(), 200, headers, "text/css")
                if view == "page":
                    return HTMLResponse(
                        views.exported(site, place), 200, {**HEADERS, "Content-Security-Policy": EXPORTED_POLICY}
                    )
                html = views.page(site, view, place, request.query_params)
                shown = HTMLResponse(html, 200, headers)
                if seconds := views.seconds_to_reload(html):
                    shown.headers["Refresh"] = str(seconds)
                if chosen in LANGUAGES:
                    shown.set_cookie(_TONGUE, chosen, path=f"/{token}/", httponly=True, samesite="strict")
                return shown
        except InputError as error:
            status, line = 404, str(error)
        except Exception as error:  # a folder that changes or is damaged in a way nobody has thought of
            status, line = 500, f"{type(error).__name__}: {first_line(error)}. The folder may have changed: reload."
            tell(f"{one_line(path)}: {one_line(line)}")
        return HTMLResponse(views.error(site, line), status, headers)

    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET"])])


def _site(request: Any, root: Path, token: str, path: str) -> Any:
    """Return the folder in the language that is asked for, that was chosen before, or that of the terminal."""
    from steel.ui.views import Site

    asked = (request.query_params.get("lang"), request.cookies.get(_TONGUE), language())
    tongue = next(one for one in asked if one in LANGUAGES)
    said = [(key, value) for key, value in request.query_params.multi_items() if key != "lang"]
    other = urlencode([*said, ("lang", "en" if tongue == "zh" else "zh")])
    return Site(root, f"/{token}", tongue, f"/{token}/{quote(path)}?{other}")


def _is_ours(host: str) -> bool:
    """Whether a Host header names this machine, at any port (one may have been forwarded)."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower() in HOSTS
