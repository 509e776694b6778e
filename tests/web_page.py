"""A folder served to a browser, and a page that notes whatever goes wrong on it."""

import contextlib
import functools
import http.server
import threading


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server that does not write a line per request."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(folder):
    """Serve a folder, and nothing else; yield its address."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def watched(context, origin):
    """Return a new page, and the list that what goes wrong on it is added to."""
    page, wrong = context.new_page(), []

    def hear(note):
        if note.type == "error":
            wrong.append(f"console: {note.text}")

    def requested(request):
        if not request.url.startswith((f"{origin}/", "data:", "blob:")):
            wrong.append(f"elsewhere: {request.url}")

    def answered(response):
        if response.status >= 400:
            wrong.append(f"missing: {response.url}")

    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("console", hear)
    page.on("request", requested)
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    page.on("response", answered)
    return page, wrong
