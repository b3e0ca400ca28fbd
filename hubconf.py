"""Entry points of torch.hub: one for each entry of the registry, nothing else.

    >>> model = torch.hub.load("owner/lvmzoo", "vae_cifar10", pretrained=True)

torch.hub lists every callable in this file, so helpers and imports are deleted at its end.
"""

dependencies = ["torch", "safetensors", "huggingface_hub", "numpy", "PIL"]


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


globals().update({name: _export(name) for name in _names()})
del _export, _names
