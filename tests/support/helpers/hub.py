"""A hub on the loopback: what huggingface_hub asks of the real one, and no more."""

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """The state of a hub.

    Attributes:
        files: Repository -> name -> content.
        private: Repository -> whether it is private.
        heard: Every request: method, path, headers, body.
        status: Status of every answer from now on; 0 = as is right.
    """

    def __init__(self):
        self.files, self.private, self.heard, self.status = {}, {}, [], 0
        self.address = ""

    def everything(self):
        """Return all bytes that came, those in base64 decoded too."""
        parts = []
        for method, path, headers, body in self.heard:
            parts += [method.encode(), path.encode(), str(headers).encode(), body]
            for line in body.splitlines() if "/commit/" in path else ():
                value = json.loads(line)["value"]
                if "content" in value:
                    parts.append(base64.b64decode(value["content"]))
        return b"\n".join(parts)


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, data, status=200):
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(self.server.hub.status or status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def hear(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.hub.heard.append(
            (self.command, self.path, dict(self.headers), body)
        )
        return urlsplit(self.path).path, body

    def do_POST(self):
        path, body = self.hear()
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(
                part for part in (asked.get("organization"), asked["name"]) if part
            )
            made = name not in self.server.hub.files
            self.server.hub.files.setdefault(name, {})
            self.server.hub.private.setdefault(
                name, asked.get("visibility") == "private"
            )
            url = {"url": f"{self.server.hub.address}/{name}"}
            self.answer(url, 200 if made else 409)
        elif path == "/api/validate-yaml":
            self.answer({"warnings": [], "errors": []})
        elif "/preupload/" in path:
            asked = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in asked
            ]
            self.answer({"files": modes})
        else:
            self.commit(path, body)

    def commit(self, path, body):
        repo = path.removeprefix("/api/models/").partition("/commit/")[0]
        for line in body.splitlines():
            step = json.loads(line)
            value = step["value"]
            if step["key"] == "file":
                content = base64.b64decode(value["content"])
                self.server.hub.files[repo][value["path"]] = content
            elif step["key"] == "deletedFile":
                del self.server.hub.files[repo][value["path"]]
        url = f"{self.server.hub.address}/{repo}/commit/{COMMIT}"
        self.answer({"commitUrl": url, "commitOid": COMMIT})

    def do_GET(self):
        path, _ = self.hear()
        if path.startswith("/api/models/"):
            repo = path.removeprefix("/api/models/").partition("/revision/")[0]
            if repo not in self.server.hub.files:
                self.answer({"error": "Repository not found"}, 404)
                return
            names = [{"rfilename": name} for name in self.server.hub.files[repo]]
            self.answer(
                {
                    "id": repo,
                    "sha": COMMIT,
                    "private": self.server.hub.private[repo],
                    "siblings": names,
                }
            )
            return
        repo, _, rest = path[1:].partition("/resolve/")
        content = self.server.hub.files.get(repo, {}).get(rest.partition("/")[2])
        self.answer(content or b"", 404 if content is None else 200)


@contextmanager
def a_hub():
    """Yield a hub that listens."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = hub
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
