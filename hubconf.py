"""Entry points of torch.hub: one for each entry of the registry, nothing else.

    >>> model = torch.hub.load("owner/lvmzoo", "vae_cifar10", pretrained=True)

torch.hub lists every callable in this file, so helpers and imports are deleted at its end.
"""

dependencies = ["torch", "safetensors", "huggingface_hub", "numpy", "PIL"]


def _use_this_checkout():
    """Refuse another lvmzoo that is imported already; let spawned processes find this one."""
    import os
    import sys

    import lvmzoo

    root = os.path.dirname(os.path.realpath(__file__))
    found = os.path.dirname(os.path.dirname(os.path.realpath(lvmzoo.__file__)))
    if os.path.normcase(found) != os.path.normcase(root):
        raise ImportError(
            f"torch.hub was asked for the lvmzoo in {root}, but this process has imported the one "
            f"in {found}; call lvmzoo.create_model for that one, or start another process"
        )
    # A model is unpickled elsewhere by the name of its module. Processes that multiprocessing
    # spawns get this list; torch.hub takes its own entry, the first, out again.
    if root not in map(os.path.realpath, sys.path[1:]):
        others = (i for i, path in enumerate(sys.path) if i and os.path.isdir(f"{path}/lvmzoo"))
        sys.path.insert(next(others, len(sys.path)), root)


def _export(name):
    from lvmzoo import create_model, model_info

    def entry(pretrained=False):
        return create_model(name, pretrained=pretrained)

    info = model_info(name)
    data = info.dataset
    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = (
        f"{info.summary}; data: {data}.\n\n"
        f"{info.paper}\n\n"
        "Arguments:\n"
        "    pretrained: Load the bundled weights, checked by their SHA-256; else fresh ones.\n\n"
        f"Returns:\n    lvmzoo.{info.model_class}"
    )
    return entry


def _names():
    from lvmzoo import list_models

    return list_models()


_use_this_checkout()
globals().update({name: _export(name) for name in _names()})
del _export, _names, _use_this_checkout
