"""A Hub in a thread: the part of its protocol that huggingface_hub uses, and faults on demand."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

TOKEN = "hf_aSecretThatNobodyMaySee"


class Drop(Exception):
    """Raised by a fault: the connection is closed without a word."""


@dataclass
class Repository:
    """Commits by hash, each a folder of files; and branches.

    A file altered afterwards keeps the id of what was committed, as on a server whose disk fails.
    """

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    ids: dict[str, dict[str, str]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], branch: str = "main", message: str = "") -> str:
        text = repr((sorted(files.items()), branch, len(self.commits)))
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid] = files
        self.ids[oid] = {name: blob_id(data) for name, data in files.items()}
        self.branches[branch] = oid
        self.log.append(message)
        return oid

    def find(self, revision: str) -> str | None:
        found = self.branches.get(revision, revision)
        return found if found in self.commits else None

    def files(self, branch: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches[branch]]


class FakeHub(ThreadingHTTPServer):
    """A server at 127.0.0.1 for one test.

    Attributes:
        repositories: What it holds.
        fault: Called with method and path of each request; a number is answered as status,
            `Drop` closes the connection.
        send: Called instead of writing the body of a file: (handler, whole file, offset).
        requests: "METHOD path" of all requests so far.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.token: str = TOKEN
        self.fault: Callable[[str, str], int | None] = lambda method, path: None
        self.send: Callable[[Any, bytes, int], None] | None = None

    def publish(self, repo_id: str, folder: Path, branch: str = "main") -> str:
        """Make a commit of a folder's files; return its hash."""
        repository = self.repositories.setdefault(repo_id, Repository())
        return repository.commit({p.name: p.read_bytes() for p in folder.iterdir()}, branch)

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer no more: connections are refused."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients of these tests come and go."""


def blob_id(data: bytes) -> str:
    """The id that git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_PUT = do_GET

    def _handle(self) -> None:
        path = self.path.split("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        body = self._body()
        try:
            status = self.server.fault(self.command, path)
            if status is not None:
                return self._answer(status, {"error": f"fault {status}"})
            for pattern, endpoint in _ENDPOINTS:
                match = re.fullmatch(pattern, path)
                if match:
                    return endpoint(self, body, **match.groupdict())
            self._answer(404, {"error": "no such endpoint"})
        except Drop:
            self.close_connection = True

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, value: Any = None, **headers: str) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for key, text in headers.items():
            self.send_header(key.replace("_", "-"), text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.server.token}"

    def _unknown(self, **headers: str) -> None:
        """Answer as the Hub does where a token is wrong or missing."""
        token = "Authorization" in self.headers
        text = "Invalid credentials in Authorization header" if token else "Invalid username"
        self._answer(401, {"error": text}, X_Error_Message=text, **headers)

    def _repository(self, repo_id: str, *, write: bool = False) -> Repository | None:
        """Find a repository; without the token, a private one is answered as one that is not."""
        repository = self.server.repositories.get(repo_id)
        if not self._known() and (write or repository is None or repository.private):
            self._unknown(X_Error_Code="RepoNotFound")
            return None
        if repository is None:
            self._answer(404, {"error": "not found"}, X_Error_Code="RepoNotFound")
        return repository

    def _revision(self, repo_id: str, revision: str) -> tuple[Repository, str] | None:
        """Find a commit, by its hash or a branch."""
        repository = self._repository(repo_id)
        if repository is None:
            return None
        oid = repository.find(revision)
        if oid is None:
            self._answer(404, {"error": "revision"}, X_Error_Code="RevisionNotFound")
            return None
        return repository, oid


def _create(handler: _Handler, body: bytes) -> None:
    if not handler._known():
        return handler._unknown()
    asked = json.loads(body)
    repo_id = f"{asked['organization']}/{asked['name']}"
    url = {"url": f"{handler.server.url}/{repo_id}", "name": repo_id}
    if repo_id in handler.server.repositories:
        return handler._answer(409, url | {"error": "You already created this model repo"})
    private = asked.get("visibility") == "private" or asked.get("private", False)
    repository = handler.server.repositories[repo_id] = Repository(private)
    repository.commit({".gitattributes": b"*.safetensors filter=lfs\n"}, message="initial commit")
    return handler._answer(200, url)


def _info(handler: _Handler, body: bytes, repo_id: str, revision: str = "main") -> None:
    if (found := handler._revision(repo_id, revision)) is None:
        return None
    repository, oid = found
    names = [{"rfilename": name} for name in repository.commits[oid]]
    facts = {"id": repo_id, "sha": oid, "private": repository.private, "siblings": names}
    return handler._answer(200, facts | {"tags": [], "downloads": 0, "likes": 0})


def _tree(handler: _Handler, body: bytes, repo_id: str, revision: str) -> None:
    if (found := handler._revision(repo_id, revision)) is None:
        return None
    repository, oid = found
    files = [
        {"type": "file", "path": name, "size": len(data), "oid": repository.ids[oid][name]}
        for name, data in repository.commits[oid].items()
    ]
    return handler._answer(200, files)


def _branch(handler: _Handler, body: bytes, repo_id: str, revision: str) -> None:
    repository = handler._repository(repo_id, write=True)
    if repository is None:
        return None
    if revision in repository.branches:
        return handler._answer(409, {"error": "Reference already exists"})
    repository.branches[revision] = repository.branches["main"]
    return handler._answer(200, {})


def _validate(handler: _Handler, body: bytes) -> None:
    handler._answer(200, {"errors": [], "warnings": []})


def _preupload(handler: _Handler, body: bytes, repo_id: str, revision: str) -> None:
    repository = handler._repository(repo_id, write=True)
    if repository is None:
        return None
    held, answers = repository.files(revision), []
    for file in json.loads(body)["files"]:
        path = file["path"]
        large = path.endswith((".safetensors", ".png"))
        data, oid = held.get(path), None
        if data is not None:
            oid = hashlib.sha256(data).hexdigest() if large else blob_id(data)
        mode = "lfs" if large else "regular"
        answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return handler._answer(200, {"files": answers})


def _batch(handler: _Handler, body: bytes, repo_id: str) -> None:
    if handler._repository(repo_id, write=True) is None:
        return None
    objects = []
    for asked in json.loads(body)["objects"]:
        answer = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] not in handler.server.objects:
            href = f"{handler.server.url}/lfs/{asked['oid']}"
            answer["actions"] = {"upload": {"href": href}}
        objects.append(answer)
    return handler._answer(200, {"transfer": "basic", "objects": objects})


def _store(handler: _Handler, body: bytes, oid: str) -> None:
    if hashlib.sha256(body).hexdigest() != oid:
        return handler._answer(400, {"error": "another hash"})
    handler.server.objects[oid] = body
    return handler._answer(200, {})


def _commit(handler: _Handler, body: bytes, repo_id: str, revision: str) -> None:
    repository = handler._repository(repo_id, write=True)
    if repository is None:
        return None
    files, message = dict(repository.files(revision)), ""
    for line in body.splitlines():
        key, value = (part := json.loads(line))["key"], part["value"]
        if key == "header":
            message = value["summary"]
        elif key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            files[value["path"]] = handler.server.objects[value["oid"]]
    oid = repository.commit(files, revision, message)
    url = f"{handler.server.url}/{repo_id}/commit/{oid}"
    return handler._answer(200, {"commitUrl": url, "commitOid": oid})


def _resolve(handler: _Handler, body: bytes, repo_id: str, revision: str, name: str) -> None:
    if (found := handler._revision(repo_id, revision)) is None:
        return None
    repository, oid = found
    data = repository.commits[oid].get(name)
    if data is None:
        missing = {"X_Error_Code": "EntryNotFound", "X_Repo_Commit": oid}
        return handler._answer(404, {"error": "no such file"}, **missing)
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    start = int(asked[1]) if asked else 0
    handler.send_response(206 if asked else 200)
    if asked:
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    handler.send_header("Content-Length", str(len(data) - start))
    handler.send_header("X-Repo-Commit", oid)
    handler.send_header("ETag", f'"{repository.ids[oid][name]}"')
    handler.end_headers()
    if handler.command == "GET":
        if handler.server.send is not None:
            handler.server.send(handler, data, start)
        else:
            handler.wfile.write(data[start:])
    return None


_REPO = r"(?P<repo_id>[^/]+/[^/]+)"
_ENDPOINTS: list[tuple[str, Callable[..., None]]] = [
    (r"/api/repos/create", _create),
    (r"/api/validate-yaml", _validate),
    (rf"/api/models/{_REPO}", _info),
    (rf"/api/models/{_REPO}/revision/(?P<revision>.+)", _info),
    (rf"/api/models/{_REPO}/tree/(?P<revision>.+)", _tree),
    (rf"/api/models/{_REPO}/branch/(?P<revision>.+)", _branch),
    (rf"/api/models/{_REPO}/preupload/(?P<revision>.+)", _preupload),
    (rf"/api/models/{_REPO}/commit/(?P<revision>.+)", _commit),
    (r"/(?P<repo_id>[^/]+/[^/]+)\.git/info/lfs/objects/batch", _batch),
    (r"/lfs/(?P<oid>[0-9a-f]{64})", _store),
    (rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _resolve),
]
