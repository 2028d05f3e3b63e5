"""The fields of TFLite's builtin options, by the number that the union has in the file.

Options are tables of their own, so an engine that does not verify a file follows whatever stands in them.
Here every field's place and kind is known, so every one is checked, and those that rules and summaries
need can be read by name.

Source: `schema.fbs` version 3 of tensorflow/tensorflow, union BuiltinOptions.
"""

from __future__ import annotations

from functools import cache
from types import MappingProxyType

from edgeinfer.model.flatbuffer import Table

Value = int | float | str | tuple[int, ...] | tuple[float, ...] | None

# One line a table, fields in slot order: "name:kind" or "name:kind=default", "-" for a slot that is no
# longer used. Kinds: struct letters for numbers; [i] and [f] are vectors, "s" is a string, "t" a table.
# Tables without fields are absent; the kinds of all others are checked when a file is read.
FIELDS = MappingProxyType(
    {
        1: "padding:b stride_w:i stride_h:i activation:b dilation_w:i=1 dilation_h:i=1 bias_type:b",
        2: "padding:b stride_w:i stride_h:i depth_multiplier:i activation:b dilation_w:i=1 dilation_h:i=1",
        3: "channels:i columns_per_channel:[i] depth_per_channel:[i]",
        4: "type:b",
        5: "padding:b stride_w:i stride_h:i filter_w:i filter_h:i activation:b",
        6: "rank:i activation:b asymmetric:?",
        7: "activation:b asymmetric:?",
        8: "activation:b weights_format:b keep_dims:? asymmetric:? bias_type:b quantization:t",
        9: "beta:f",
        10: "axis:i activation:b",
        11: "activation:b pot_scale:?",
        12: "activation:b",
        13: "radius:i bias:f alpha:f beta:f",
        14: "activation:b cell_clip:f projection_clip:f kernel_type:b asymmetric:?",
        15: "- - align_corners:? half_pixel_centers:?",
        16: "subgraph:I",
        17: "new_shape:[i]",
        18: "ngram:i skip:i all:?",
        19: "block_size:i",
        20: "combiner:b",
        21: "activation:b",
        23: "axis:i batch_dims:i",
        27: "keep_dims:?",
        28: "activation:b pot_scale:?",
        29: "activation:b",
        30: "squeeze_dims:[i]",
        31: "time_major:? activation:b asymmetric:?",
        32: "begin_mask:i end_mask:i ellipsis_mask:i new_axis_mask:i shrink_axis_mask:i offset:?",
        35: "splits:i",
        37: "from:b to:b",
        40: "output_type:b",
        49: "padding:b stride_w:i stride_h:i activation:b bias_type:b",
        50: "validate:?",
        55: "output_type:b",
        57: "output_type:b",
        58: "min:f max:f bits:i narrow:?",
        59: "count:i axis:i",
        61: "axis:i",
        64: "count:i axis:i",
        69: "activation:b cell_clip:f projection_clip:f merge:? time_major:?=1 asymmetric:?",
        70: "time_major:? activation:b merge:? asymmetric:?",
        71: "activation:b cell_clip:f projection_clip:f time_major:? asymmetric:? diagonal:?",
        74: "align_corners:? half_pixel_centers:?",
        75: "alpha:f",
        77: "mode:b",
        79: "splits:i",
        80: "index_type:b=2",
        87: "sequence_axis:i batch_axis:i",
        92: "then_subgraph:i else_subgraph:i",
        93: "condition_subgraph:i body_subgraph:i",
        94: "block_size:i",
        101: "transpose_x:? transpose_y:? asymmetric:?",
        102: "exclusive:? reverse:?",
        103: "subgraph:i",
        106: ("padding:b stride_d:i stride_w:i stride_h:i activation:b dilation_d:i=1 dilation_w:i=1 dilation_h:i=1"),
        107: "table:i key_type:b value_type:b",
        111: "container:s shared_name:s",
        114: "seed:q seed2:q",
        115: "boundaries:[f]",
        116: "approximate:?",
    }
)


@cache
def _layout(options_type: int) -> tuple[tuple[int, str, str, int], ...]:
    """Return (slot, name, kind, default) of every field."""
    fields = []
    for slot, word in enumerate(FIELDS.get(options_type, "").split()):
        if word != "-":
            name, _, rest = word.partition(":")
            kind, _, default = rest.partition("=")
            fields.append((slot, name, kind, int(default or 0)))
    return tuple(fields)


def read_options(table: Table, options_type: int) -> dict[str, Value]:
    """Return every field of an options table by name; empty for a table that has no fields or is not known.

    Args:
        table: Where they stand.
        options_type: The number in the union.

    Raises:
        DamagedModelError: A field lies outside the bytes.
    """
    found: dict[str, Value] = {}
    for slot, name, kind, default in _layout(options_type):
        if kind == "f":
            found[name] = table.real(slot, float(default))
        elif kind == "[i]":
            found[name] = table.integers(slot)
        elif kind == "[f]":
            found[name] = table.reals(slot)
        elif kind == "s":
            found[name] = table.string(slot)
        elif kind == "t":
            table.table(slot)
        else:
            found[name] = table.integer(slot, kind, default)
    return found
