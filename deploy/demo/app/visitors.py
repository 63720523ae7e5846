"""The visitors: a steady load on the shop, whose rate and extra requests come from files in /control.

Prints one line of JSON a second: how many requests were answered and how many were not.
"""

import http.client
import json
import os
import random
import threading
import time

WEB = ("web", 80)
RATE = float(os.environ.get("RATE", "20"))
WORKERS = 4
WORKERS_MAX = 16  # in a burst, so that one slow answer does not hold back the rate that is asked for
COUNTS = {"ok": 0, "failed": 0}
LOCK = threading.Lock()


def control(name):
    try:
        with open("/control/" + name, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def ask(method, path, body=None):
    connection = http.client.HTTPConnection(*WEB, timeout=5)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        answer.read()
        good = answer.status == 200
    except OSError:
        good = False
    finally:
        connection.close()
    with LOCK:
        COUNTS["ok" if good else "failed"] += 1


def working():
    """How many visit at this rate: as many as are enough for it, and no more."""
    return min(max(WORKERS, int(WORKERS * rate / RATE)), WORKERS_MAX)


def visit(number):
    while True:
        if number >= working():
            time.sleep(0.1)
            continue
        began = time.monotonic()
        kind = random.random()
        if kind < 0.7:
            ask("GET", f"/item/{random.randrange(500)}")
        elif kind < 0.9:
            ask("GET", "/")
        else:
            ask("POST", "/order", b"{}")
        pause = working() / rate - (time.monotonic() - began)
        time.sleep(max(pause, 0) * random.uniform(0.9, 1.1))


rate = RATE
for worker in range(WORKERS_MAX):
    threading.Thread(target=visit, args=(worker,), daemon=True).start()

done = None
while True:
    time.sleep(1)
    rate = float(control("rate") or RATE)
    order = control("request")
    if order and order != done:
        done = order
        request = json.loads(order)
        ask("POST", request["path"], request["body"].encode())
    with LOCK:
        line = json.dumps({"unix": int(time.time()), **COUNTS})
        COUNTS.update(ok=0, failed=0)
    print(line, flush=True)
