"""As much of W&B's server as its client needs."""

import json
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Keeps runs as W&B's server does: the lines of a history by number, in ``runs``.

    Attributes:
        runs: by id, ``lines``: the history's lines by number; ``ends``: what ended it.
        views: what was asked to be saved as a view.
        hanging: whether requests are left without an answer.
    """

    daemon_threads = True

    def __init__(self):
        self.runs, self.views, self.hanging = {}, [], False
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request, client_address):
        """The client may go away."""

    def query(self, operation, variables):
        if operation == "UpsertBucket":
            self.runs.setdefault(variables["name"], {"lines": {}, "ends": []})
            entity = {"id": "e", "name": "someone"}
            project = {"id": "p", "name": variables["project"], "entity": entity}
            bucket = {"id": "b", "name": variables["name"], "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if operation == "RunResumeStatus":
            return {"model": self.resume_status(variables["name"])}
        if operation == "Viewer":
            return {
                "viewer": {"id": "u", "entity": "someone", "flags": "{}", "username": "someone"}
            }
        if operation == "UpsertView2":
            self.views.append(variables)
            return {"upsertView": {"view": {"id": "v", "name": "nw-1-v"}, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [
                {"name": name, "uploadUrl": f"{self.url}/upload"} for name in variables["files"]
            ]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {}

    def resume_status(self, run_id):
        if run_id not in self.runs:
            return None
        lines = self.runs[run_id]["lines"]
        tail = [lines[max(lines)]] if lines else []
        described = {"id": "b", "name": run_id, "displayName": "", "notes": "", "tags": []}
        state = {"config": "{}", "summaryMetrics": "{}", "wandbConfig": '{"t": 1}'}
        events = {"logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]"}
        history = {"historyLineCount": len(lines), "historyTail": json.dumps(tail)}
        bucket = described | state | events | history
        return {"id": "p", "name": "", "entity": {"id": "e", "name": "someone"}, "bucket": bucket}

    def stream(self, run_id, content):
        run = self.runs[run_id]
        history = content.get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
        for number, text in enumerate(history["content"], history["offset"]):
            run["lines"][number] = text
        if content.get("preempting"):
            run["ends"].append("preempting")
        if content.get("complete"):
            run["ends"].append(content["exitcode"])

    def rows(self, number=0):
        """A run's history as (step, values)."""
        lines = self.runs[f"{number:08x}"]["lines"]
        items = [json.loads(lines[n]) for n in range(len(lines))]
        return [
            (item["_step"], {k: v for k, v in item.items() if not k.startswith("_")})
            for item in items
        ]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.hanging:
            time.sleep(60)
        answer = {}
        if self.path == "/graphql":
            content = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", content["query"])[1]
            answer["data"] = self.server.query(operation, content.get("variables"))
        elif self.path.endswith("/file_stream"):
            self.server.stream(self.path.split("/")[4], json.loads(body))
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PUT = do_POST  # noqa: N815

    def log_message(self, *args):
        """Nothing."""
