"""Refuse a SavedModel that does something when it is read. Runs in the child, before anything is loaded.

A SavedModel is a program in two ways. TensorFlow calls functions of the graph while it restores it, to fill tables, and
an op may write any file. Keras 2 builds layers from settings, which may hold Python bytecode (Lambda) or the name of a
function of TensorFlow's API with its arguments. So what is not known to compute only is refused; there is no switch.

Source: `tf.saved_model.load` and `KerasObjectLoader` of tf-keras 2.21, tried with directories that leave a trace.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from converters.errors import ConversionError

__all__ = ["KERAS_2_FILE", "check_graph", "check_settings", "code_in_settings"]

KERAS_2_FILE = "keras_metadata.pb"  # the layers' settings in a SavedModel that Keras 2 wrote

# Layers of Keras 2 that hold bytecode, or the name of a method to call.
_CODE_LAYERS = ("Lambda", "__lambda__", "ClassMethod", "InstanceMethod")
# Layers that hold the name of a function in TensorFlow's API, e.g. "math.truediv".
_CALL_LAYERS = ("TFOpLambda", "SlicingOpLambda")
# Rooms of that API in which every function only computes.
_ROOMS = (
    "__operators__.",
    "bitwise.",
    "dtypes.",
    "image.",
    "linalg.",
    "math.",
    "nn.",
    "random.",
    "signal.",
)
# The functions that stand outside of these rooms, and those of two rooms that hold others too.
_FUNCTIONS = frozenset(
    """
    abs add add_n all any arange argmax argmin argsort batch_dot batch_flatten batch_to_space bitcast boolean_mask
    broadcast_to cast clip clip_by_norm clip_by_value concat concatenate constant conv1d conv2d convert_to_tensor cos
    cumprod cumsum depth_to_space divide dot edit_distance einsum elu ensure_shape equal exp expand_dims exponential
    eye fill flatten floor gather gather_nd gelu greater greater_equal hard_sigmoid identity identity_n is_nan
    l2_normalize leaky_relu less less_equal linear linspace log logical_and logical_not logical_or matmul max maximum
    mean meshgrid min minimum mish multiply negative norm not_equal one_hot ones ones_like pad permute_dimensions
    pool2d pow prod range rank realdiv reduce_all reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min
    reduce_prod reduce_sum relu relu6 repeat repeat_elements reshape resize_images reverse roll round rsqrt
    saturate_cast scatter_nd searchsorted selu sequence_mask shape sigmoid sign sin size slice softmax softplus
    softsign sort space_to_batch space_to_depth split sqrt square squeeze stack std stop_gradient strided_slice
    subtract sum swish tan tanh tensor_scatter_nd_add tensor_scatter_nd_update tensordot tile transpose truediv
    unstack var where zeros zeros_like
    """.split()  # noqa: SIM905 - as a list it takes a screen and says no more
)

# Of the ops that TensorFlow calls stateful, those that touch nothing but variables, tables and random numbers.
_STATEFUL = re.compile(
    r"Assert|Assign\w*VariableOp|Case|CheckNumerics\w*|Cudnn\w+|DestroyResourceOp|DisableCopyOnRead|Empty|GuaranteeConst"
    r"|If|InitializeTable\w*|LookupTable\w+|Multinomial|\w*HashTable\w*|ParameterizedTruncatedNormal|Random\w+"
    r"|ReadVariableOp|Resource(Sparse)?(Apply|Gather|Scatter|StridedSlice)\w+|Restore\w*|Rng\w+"
    r"|SampleDistortedBoundingBox\w*|Stack\w*|StatefulPartitionedCall|Stateful(Random|Standard|Truncated|Uniform)\w+"
    r"|StatelessRandomGetAlg|TensorArray\w*|TruncatedNormal|Var(Handle|IsInitialized)Op|Variable\w*|While|_Arg|_Retval"
)
# Not called stateful, and still they reach out: caches of data sets are files, debug ops write to URLs.
_REACHING = re.compile(r"Debug\w+|\w*Dataset\w*|\w*Iterator\w*|XlaCustomCall\w*")
# Every SavedModel holds these, to save itself; nobody may call them while it is read.
_CHECKPOINT = ("MergeV2Checkpoints", "Save", "SaveSlices", "SaveV2")


def check_settings(path: Path) -> None:
    """Refuse a Keras 2 SavedModel whose layers hold code, or call what does more than compute.

    Raises:
        ConversionError: Such a layer is in it.
        OSError: The settings are not there: Keras 2 would look for them elsewhere.
        ValueError: It is damaged.
    """
    messages = importlib.import_module("tf_keras.protobuf.saved_metadata_pb2")
    decoding = importlib.import_module("google.protobuf.message")
    try:
        nodes = messages.SavedMetadata.FromString((path / KERAS_2_FILE).read_bytes()).nodes
    except decoding.DecodeError as error:
        raise ValueError(f"`{KERAS_2_FILE}` is damaged: {error}") from error
    for node in nodes:
        found = code_in_settings(json.loads(node.metadata))
        if found:
            raise ConversionError(
                f"`{path}` holds code in a layer, and it is not run.",
                received=found,
                expected="layers whose meaning is in the file, and calls that only compute",
                next_step="Replace the layer by one of Keras' own. Or, if you trust the model: where it was made, "
                '`model.export("model")` writes the bare function, and that directory can be converted.',
            )


def code_in_settings(settings: Any) -> str:
    """Return what in a layer's settings would call code, in words; "" where nothing does.

    Args:
        settings: What Keras 2 wrote, as JSON: layers within layers.
    """
    if isinstance(settings, dict):
        kind, inner = settings.get("class_name"), settings.get("config")
        name = inner.get("name", "") if isinstance(inner, dict) else ""
        place = f"layer `{name}`" if name else "a layer"
        if kind is not None and not isinstance(kind, str):
            return f"{place} of the class {kind!r}"
        if kind is not None and kind.split(">")[-1] in _CODE_LAYERS:
            return f"{place} of the class `{kind}`"
        if kind is not None and kind.split(">")[-1] in _CALL_LAYERS:
            function = inner.get("function") if isinstance(inner, dict) else None
            if not _only_computes(function):
                return f"{place}, which calls `{function}`"
        for key, value in settings.items():
            if key.endswith("_type") and value == "lambda":
                return f"a function of bytecode, `{key}`"
    children = settings.values() if isinstance(settings, dict) else settings if isinstance(settings, list) else ()
    return next(filter(None, map(code_in_settings, children)), "")


def _only_computes(function: Any) -> bool:
    if not isinstance(function, str):
        return False
    name = function.removeprefix("compat.v1.")
    return name.startswith(_ROOMS) or re.sub(r"^keras\.(activations|backend)\.", "", name) in _FUNCTIONS


def check_graph(path: Path) -> None:
    """Refuse a SavedModel whose graph could do more than compute.

    Raises:
        ConversionError: An op of it has a side effect, or reading it would write a checkpoint.
        OSError: The directory cannot be read.
    """
    from tensorflow.python.framework import op_def_registry
    from tensorflow.python.saved_model import loader_impl

    for part in loader_impl.parse_saved_model(path).meta_graphs:
        bodies = {one.signature.name: one.node_def for one in part.graph_def.library.function}
        everything = [*part.graph_def.node, *(node for body in bodies.values() for node in body)]
        refused = {node.op for node in _called(part, bodies) if node.op in _CHECKPOINT}
        for kind in {node.op for node in everything}:
            known = op_def_registry.get(kind)
            # An op that TensorFlow does not know cannot run: TensorFlow itself says so.
            stateful = known is not None and known.is_stateful and kind not in _CHECKPOINT
            if _REACHING.fullmatch(kind) or (stateful and not _STATEFUL.fullmatch(kind)):
                refused.add(kind)
        if refused:
            raise ConversionError(
                f"`{path}` holds ops that do more than compute, and is not loaded.",
                received=", ".join(f"`{one}`" for one in sorted(refused)),
                expected="a graph that reads numbers and answers numbers",
                next_step="Leave files, prints, Python calls and data sets out of the model, and write it again with "
                '`model.export("model")`.',
            )


def _called(part: Any, bodies: dict[str, Any]) -> Iterator[Any]:
    """Yield the nodes that are run while a graph is restored or traced: all but those that save it."""
    # TensorFlow 2 calls functions of its objects. TensorFlow 1 runs the graph itself, from what restores, initializes
    # and answers back to its start; so does TensorFlow 2 with a directory of several graphs.
    nodes = list(_before(part))
    yield from nodes
    waiting = [*part.object_graph_def.concrete_functions, *(name for node in nodes for name in _functions(node))]
    seen = set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            for node in bodies.get(name, ()):
                yield node
                waiting += _functions(node)


def _before(part: Any) -> Iterator[Any]:
    nodes = {node.name: node for node in part.graph_def.node}
    waiting = [part.saver_def.restore_op_name]
    waiting += [name for one in part.collection_def.values() for name in one.node_list.value]
    waiting += [tensor.name for one in part.signature_def.values() for tensor in one.outputs.values()]
    seen = set()
    while waiting:
        # "^name" is a control input, "name:1" the second output.
        name = waiting.pop().lstrip("^").split(":")[0]
        if name in nodes and name not in seen:
            seen.add(name)
            yield nodes[name]
            waiting += nodes[name].input


def _functions(node: Any) -> Iterable[str]:
    yield node.op  # a function may be called as if it were an op
    for attribute in node.attr.values():
        yield attribute.func.name
        yield from (one.name for one in attribute.list.func)
