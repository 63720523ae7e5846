"""The shop: serves pages, counts visits in Redis, and leaves a receipt in the object store now and then.

It has a hole, on purpose: `POST /report` runs what it is sent, as a template engine with an injection would. The demo's
intruder comes in through it. Never run this anywhere but in the demo.
"""

import http.client
import http.server
import json
import os
import random
import socket
import threading
import time

REDIS = ("redis", 6379)
STORE = ("store", 9000)
RECEIPT_SECONDS = float(os.environ.get("RECEIPT_SECONDS", "8"))
RECEIPT_BYTES = 32 * 1024


class Redis:
    """One connection that speaks just enough of the protocol, made again when it breaks."""

    def __init__(self):
        self.lock = threading.Lock()
        self.stream = None

    def ask(self, *words):
        with self.lock:
            for last in (False, True):
                try:
                    return self.exchange(words)
                except OSError:
                    self.stream = None
                    if last:
                        raise

    def exchange(self, words):
        if self.stream is None:
            self.stream = socket.create_connection(REDIS, timeout=2).makefile("rwb")
        request = b"*%d\r\n" % len(words)
        for word in words:
            word = str(word).encode()
            request += b"$%d\r\n%s\r\n" % (len(word), word)
        self.stream.write(request)
        self.stream.flush()
        head = self.stream.readline()
        if not head:
            raise OSError("redis closed the connection")
        if head[:1] == b"$" and int(head[1:]) >= 0:
            return self.stream.read(int(head[1:]) + 2)[:-2]
        return head[1:-2]


REDIS_CLIENT = Redis()


def put(name, body):
    """Stores an object; also how the intruder's code reaches the store."""
    connection = http.client.HTTPConnection(*STORE, timeout=10)
    connection.request("PUT", "/" + name, body)
    status = connection.getresponse().status
    connection.close()
    return status


def receipts():
    """Leaves a receipt every few seconds and reads one back now and then."""
    while True:
        time.sleep(RECEIPT_SECONDS * random.uniform(0.8, 1.2))
        try:
            name = f"receipt-{random.randrange(50)}"
            put(name, os.urandom(RECEIPT_BYTES))
            connection = http.client.HTTPConnection(*STORE, timeout=10)
            connection.request("GET", "/" + name)
            connection.getresponse().read()
            connection.close()
        except OSError:
            pass


class Handler(http.server.BaseHTTPRequestHandler):
    def reply(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path.startswith("/item/"):
            item = self.path[6:16]
            REDIS_CLIENT.ask("SET", "item:" + item, "x" * 200)
            self.reply({"item": item, "bytes": len(REDIS_CLIENT.ask("GET", "item:" + item))})
        else:
            self.reply({"visits": int(REDIS_CLIENT.ask("INCR", "visits")), "by": socket.gethostname()})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/order":
            self.reply({"order": int(REDIS_CLIENT.ask("INCR", "orders"))})
        elif self.path == "/report":
            scope = {"put": put, "__name__": "report"}
            threading.Thread(target=exec, args=(body.decode(), scope), daemon=True).start()
            self.reply({"report": "started"})
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


threading.Thread(target=receipts, daemon=True).start()
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
