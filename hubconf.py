"""Entry points of torch.hub: one for each entry of the registry, nothing else.

    >>> model = torch.hub.load("owner/lvmzoo", "vae_cifar10", pretrained=True)

torch.hub lists every callable in this file, so helpers and imports are deleted at its end.
"""

dependencies = ["torch", "safetensors", "huggingface_hub", "numpy", "PIL"]


def _use_this_checkout():
    """Refuse another lvmzoo that is imported already; let spawned processes find this one."""
    import os
    import sys
    from pathlib import Path

    import lvmzoo

    root, found = Path(__file__).resolve().parent, Path(lvmzoo.__file__).resolve().parents[1]
    # torch.hub puts a newer version into the folder of the one before.
    version = max(path.stat().st_mtime_ns for path in root.glob("lvmzoo/**/*.py"))
    before = vars(lvmzoo).setdefault("_hub_version", version)
    if found != root or before != version:
        raise ImportError(
            f"torch.hub was asked for the lvmzoo in {root}, but this process has imported "
            f"{'an earlier version of it' if found == root else f'the one in {found}'}; call "
            "lvmzoo.create_model for that one, or start another process"
        )
    # A model is unpickled elsewhere by the name of its module. Processes that multiprocessing
    # spawns get this list; torch.hub takes its own entry, the first, out again.
    if str(root) not in map(os.path.realpath, sys.path[1:]):
        others = (i for i, path in enumerate(sys.path) if i and os.path.isdir(f"{path}/lvmzoo"))
        sys.path.insert(next(others, len(sys.path)), str(root))


def _export(name):
    from lvmzoo import create_model, model_info

    def entry(pretrained=False, **overrides):
        return create_model(name, pretrained=pretrained, **overrides)

    info = model_info(name)
    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f"""{info.summary}; data: {info.dataset}.

{info.paper}

Arguments:
    pretrained: Load the bundled weights, checked by their SHA-256; else fresh ones.
    overrides: Fields of its config that are to be others, e.g. image_size=64; for fresh weights.

Returns:
    lvmzoo.{info.model_class}"""
    return entry


def _names():
    from lvmzoo import list_models

    return list_models()


_use_this_checkout()
globals().update({name: _export(name) for name in _names()})
del _export, _names, _use_this_checkout
