"""The formats of a graph: how a function of a model is written to a file, and run from it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from lvmzoo.exporting.graphs import Graph
from lvmzoo.extra import import_extra

__all__ = ["BATCH", "FORMATS", "OPSET", "Format", "Run"]

OPSET = 18  # the oldest that torch writes without converting, hence what most runtimes can run
BATCH = "N"  # the batch's dimension in ONNX and in lvmzoo.json
_ENOUGH = 1024  # numbers from which on storing a tensor in half of the space is worth a node

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], list[np.ndarray]]


class Format(NamedTuple):
    """A format of files.

    Arguments:
        ending: Of the files' names.
        needs: The modules without which it cannot be written and checked.
        write: Writes a graph of a model, all of whose weights it was given may be stored in half
            precision if that is asked for.
        load: Returns what runs such a file, its inputs by their names.
    """

    ending: str
    needs: tuple[str, ...]
    write: Callable[[nn.Module, Graph, Path, bool], None]
    load: Callable[[Path], Run]

    def check_installed(self) -> None:
        """Refuse to begin without a library that is needed in the end.

        Raises:
            ImportError: One is absent.
        """
        for name in self.needs:
            import_extra(name, "export")


class _Module(nn.Module):
    """One function of a model as a module of its own."""

    def __init__(self, model: nn.Module, graph: Graph) -> None:
        super().__init__()
        self.model, self.graph = model, graph

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Call the function."""
        return tuple(self.graph.function(**dict(zip(self.graph.inputs, tensors, strict=True))))


def _program(model: nn.Module, graph: Graph) -> ExportedProgram:
    # Its parameters are one `*tensors`, so that the sizes of all of them are one tuple.
    return _export(_Module(model, graph), graph, lambda sizes: (sizes,))


def _export(module: nn.Module, graph: Graph, sizes_of: Callable[..., Any]) -> ExportedProgram:
    # Two, since 1 would be taken for the only size; and torch.export stores them.
    inputs = tuple(value[:2].clone() for value in graph.inputs.values())
    sizes = sizes_of(({0: Dim(BATCH, min=1, max=2**31 - 1)},) * len(inputs))
    return torch.export.export(module, inputs, dynamic_shapes=sizes, strict=False)


# ONNX


def _write_onnx(model: nn.Module, graph: Graph, path: Path, half: bool) -> None:
    import onnx
    from onnxscript import optimizer

    exported = torch.onnx.export(
        _program(model, graph),
        dynamo=True,
        opset_version=OPSET,
        input_names=list(graph.inputs),
        output_names=list(graph.outputs),
        optimize=False,
        verbose=False,
    )
    assert exported is not None
    # Parts of weights, which the steps of a sampler use, instead of the whole and a slice.
    limit = 1 << 40
    program = optimizer.optimize(
        exported.model_proto, input_size_limit=limit, output_size_limit=limit
    )
    _name_batch(program.graph)
    for node in program.graph.node:  # which name the files that they were traced in
        del node.metadata_props[:]
    if half:
        _halve(program.graph)
    onnx.checker.check_model(program)
    onnx.save(program, path)


def _name_batch(graph: Any) -> None:
    """Call the one dynamic dimension, for which torch makes up a name, what everybody calls it."""
    del graph.value_info[:]  # inner shapes, which runtimes infer again
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = BATCH


def _halve(graph: Any) -> None:
    """Store in float16 what it can hold, with a cast before each use."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        full = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            short = full.astype(np.float16)
        if full.size < _ENOUGH or not np.array_equal(short.astype(np.float32), full):
            continue
        name, stored = tensor.name, f"{tensor.name}.float16"
        tensor.CopyFrom(numpy_helper.from_array(short, stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _load_onnx(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; it warns of what it leaves as it is
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, dict(inputs))


# torch.export


def _write_torch(model: nn.Module, graph: Graph, path: Path, half: bool) -> None:
    whole = _program(model, graph).module()
    assert isinstance(whole, torch.fx.GraphModule)
    whole.graph.eliminate_dead_code()
    if half:
        _halve_weights(whole)
    # Made anew it has no weights but those that its graph uses.
    used = torch.fx.GraphModule(whole, whole.graph)
    program = _export(used, graph, tuple)
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:  # which name the files that they were traced in
                node.meta.pop("stack_trace", None)
    torch.export.save(program, path)


def _halve_weights(module: torch.fx.GraphModule) -> None:
    for node in module.graph.nodes:
        if node.op != "get_attr":
            continue
        owner, _, name = node.target.rpartition(".")
        parent = module.get_submodule(owner)
        full = getattr(parent, name)
        if not isinstance(full, Tensor) or full.dtype != torch.float32 or full.numel() < _ENOUGH:
            continue  # or part of the graph that is a graph of its own, which takes its weights in
        short = full.detach().half()
        if not torch.equal(short.float(), full):
            continue
        delattr(parent, name)
        parent.register_buffer(name, short)
        with module.graph.inserting_after(node):
            cast = module.graph.call_function(torch.ops.aten.to.dtype, (node, torch.float32))
        node.replace_all_uses_with(cast, delete_user_cb=lambda user, cast=cast: user is not cast)


def _load_torch(path: Path) -> Run:
    module = torch.export.load(path).module()

    def run(inputs: Arrays) -> list[np.ndarray]:
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(array) for array in inputs.values()))
        return [output.numpy() for output in outputs]

    return run


FORMATS: Mapping[str, Format] = {
    "onnx": Format("onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _load_onnx),
    "torch-export": Format("pt2", (), _write_torch, _load_torch),
}
