"""How tests serve a page, and speak with one that is open."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import torch

from lvmzoo.demo import address_of

# Numbers go as lists; integers become Int32Array, others Float32Array, as the worker takes them.
_CALL = """async ({ method, args, integers, floats }) => {
    const { call } = await import(new URL("zoo.js", document.querySelector("script").src));
    const dense = (value) => {
        if (Array.isArray(value) || ArrayBuffer.isView(value)) return Array.from(value);
        if (value === null || typeof value !== "object") return value;
        return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, dense(v)]));
    };
    for (const key of integers) args[key] = Int32Array.from(args[key]);
    for (const key of floats) args[key] = Float32Array.from(args[key]);
    for (const key of ["from", "to"]) {
        for (const name of Object.keys(args[key] ?? {})) {
            args[key][name] = Float32Array.from(args[key][name]);
        }
    }
    return dense(await call(method, args));
}"""


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[str]:
    """Run a server in a thread; yield its address."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield address_of(server)
    finally:
        server.shutdown()
        thread.join()


def opened(open_page, site: str, model: str, *, view: str = "", query: str = "", **options) -> Any:
    """Open a view of a model and wait until it is shown."""
    page = open_page(f"{site}#/{quote(model, safe='')}/{view}?{query}", **options)
    page.wait_for_selector(".panel canvas, .panel table")
    return page


def call(page: Any, method: str, **args: Any) -> Any:
    """Have the page's worker do something; tensors go there, lists come back."""
    tensors = {key: value for key, value in args.items() if isinstance(value, torch.Tensor)}
    integers = [key for key, value in tensors.items() if not value.is_floating_point()]
    floats = [key for key in tensors if key not in integers]
    plain = args | {key: value.flatten().tolist() for key, value in tensors.items()}
    request = {"method": method, "args": plain, "integers": integers, "floats": floats}
    return page.evaluate(_CALL, request)


def until(page: Any, condition: str | Callable[[], bool], seconds: int = 180) -> None:
    """Wait until something is so: JavaScript that is true, or a function that asks the page more.

    Playwright's own way needs eval, which the page forbids.
    """
    for _ in range(10 * seconds):
        if page.evaluate(condition) if isinstance(condition, str) else condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never true: {condition}")
