"""A W&B server that answers as much of its API as an upload asks for, and remembers what it was sent.

Written from the requests of wandb 0.31; the real server was not reached, so that this shows what our commands send,
not that W&B takes it.
"""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ENTITY = "someone"
OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")


class FakeWandb(ThreadingHTTPServer):
    """Knows one account; ``refused`` names runs that it fails."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.runs, self.artifacts, self.files, self.history, self.refused, self.bodies = {}, {}, {}, {}, set(), []

    def handle_error(self, request, client_address):
        """Say nothing of connections that the client drops, which it does at its end."""

    def answer(self, operation, given):
        """Return the data of a GraphQL request."""
        return getattr(self, f"on_{operation}", lambda given: {})(given)

    def on_Viewer(self, given):
        account = {"id": "1", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": account}

    def on_ServerFeaturesQuery(self, given):
        return {"serverInfo": {"features": []}}

    def on_RunResumeStatus(self, given):
        project = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": ENTITY}}
        return {"model": project | {"bucket": self.bucket(given["name"]) if given["name"] in self.runs else None}}

    def on_UpsertBucket(self, given):
        known = given["name"] in self.runs
        run = self.runs.setdefault(given["name"], {})
        run.update({key: value for key, value in given.items() if value is not None})
        return {"upsertBucket": {"bucket": self.bucket(given["name"]), "inserted": not known}}

    def bucket(self, name):
        """Return a run as the server knows it."""
        run = self.runs[name]
        entity = {"id": "e", "name": run.get("entity") or ENTITY}
        facts = {"id": f"id-{name}", "name": name, "displayName": run.get("displayName"), "description": None}
        counts = {f"{kind}LineCount": 0 for kind in ("log", "events")}
        lines = self.history.get(name, [])
        tail = json.dumps([json.dumps(line) for line in lines[-1:]])
        tails = {"historyTail": tail, "eventsTail": "[]", "historyLineCount": len(lines)}
        config = run.get("config", "{}")
        project = {"id": "p", "name": run["project"], "entity": entity}
        known = {"config": config, "summaryMetrics": "{}", "tags": run.get("tags"), "notes": None}
        began = {"wandbConfig": '{"t": 1}'}  # without it a run counts as not begun, and cannot be resumed
        return facts | counts | tails | known | began | {"project": project, "sweepName": None}

    def on_CreateRunFiles(self, given):
        files = [{"name": name, "uploadUrl": f"{self.url}/store/{given['run']}/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": f"id-{given['run']}", "uploadHeaders": [], "files": files}}

    def on_MarkRunFilesUploaded(self, given):
        return {"markRunFilesUploaded": {"success": True}}

    def on_CreateArtifact(self, given):
        given = given["input"]
        name = f"{given['artifactCollectionName']}-{given['digest']}"
        state = self.artifacts[name]["state"] if name in self.artifacts else "PENDING"
        self.artifacts.setdefault(name, {"state": state, "id": name} | given)
        sequence = {"latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": name, "state": state, "artifactSequence": sequence}}}

    def on_CreateArtifactManifest(self, given):
        file = {"id": "f", "uploadUrl": f"{self.url}/store/manifests/{given['artifactID']}", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": given["artifactID"], "file": file}}}

    def on_UpdateArtifactManifest(self, given):
        name = given["artifactManifestID"]
        file = {"id": "f", "uploadUrl": f"{self.url}/store/manifests/{name}", "uploadHeaders": []}
        return {"updateArtifactManifest": {"artifactManifest": {"id": name, "file": file}}}

    def on_CreateArtifactFiles(self, given):
        nodes = [
            {
                "storagePath": f"{file['artifactID']}/{file['name']}",
                "uploadUrl": f"{self.url}/store/artifacts/{file['artifactID']}/{file['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }
            for file in given["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def on_CommitArtifact(self, given):
        artifact = self.artifacts[given["artifactID"]]
        artifact["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact["id"], "digest": artifact["digest"]}}}

    def on_ArtifactType(self, given):
        return {"project": None}

    def on_ArtifactByID(self, given):
        artifact = self.artifacts[given["id"]]
        sequence = {"name": artifact["artifactCollectionName"], "project": None}
        nothing = dict.fromkeys(("description", "metadata", "historyStep", "commitHash", "updatedAt"))
        times = {"createdAt": "2026-01-01T00:00:00", "ttlDurationSeconds": -1, "ttlIsInherited": True}
        known = {"id": artifact["id"], "state": artifact["state"], "digest": artifact["digest"], "versionIndex": 0}
        kind = {"artifactType": {"name": artifact["artifactTypeName"]}, "artifactSequence": sequence}
        return {"artifact": nothing | times | known | kind | {"tags": [], "size": 0, "fileCount": 0, "aliases": []}}

    def on_ClientIDMapping(self, given):
        by_client = {artifact["clientID"]: artifact["id"] for artifact in self.artifacts.values()}
        return {"clientIDMapping": {"serverID": by_client.get(given["clientID"])}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        self.server.files[self.path.removeprefix("/store/")] = self.body()
        self.reply(200)

    def do_POST(self):
        body = self.body()
        if self.path == "/graphql":
            asked = json.loads(body)
            given = asked.get("variables") or {}
            if given.get("name") in self.server.refused:
                return self.reply(400)
            return self.reply(200, {"data": self.server.answer(OPERATION.search(asked["query"])[1], given)})
        if self.path.endswith("/file_stream"):
            stream = json.loads(body).get("files", {}).get("wandb-history.jsonl", {})
            lines = [json.loads(line) for line in stream.get("content", [])]
            self.server.history.setdefault(self.path.split("/")[-2], []).extend(lines)
        self.reply(200)

    def body(self):
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        content = gzip.decompress(content) if self.headers.get("content-encoding") == "gzip" else content
        self.server.bodies.append(content)
        return content

    def reply(self, code, answer=None):
        content = json.dumps(answer or {}).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@contextmanager
def fake_wandb() -> Iterator[FakeWandb]:
    """Serve until the block ends."""
    server = FakeWandb()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
