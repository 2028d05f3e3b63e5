"""Attach a metadata buffer and files to a TFLite file, and leave every byte of the model as it is.

A flatbuffer's offsets only point forward, so a root table that knows one buffer more must stand in front of
what it points to::

    head   root table, list of buffers, list of metadata, the metadata buffer    a multiple of 16 bytes
    body   the file as the converter wrote it                                    not one byte changed
    zip    labels.txt, edgeinfer.json                                            stored, not compressed

The body's own root table stays behind in it, unused (a few bytes a buffer). In exchange every weight keeps its bytes
and its alignment, op options of any schema version survive, and `detach` gives back the very file that `attach` was
given. Packing the whole model anew needs a generated schema as new as the file, moves the weights to other alignments,
and takes four times as long (17 ms against 4 ms for 3.6 MB, measured).

Source: `schema.fbs` version 3 of tensorflow/tensorflow; https://flatbuffers.dev/internals; the zip is the
one that TFLite Metadata appends for associated files.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from edgeinfer.errors import DamagedModelError, MetadataError, MissingDependencyError, ModelError
from edgeinfer.model.flatbuffer import FlatBuffer, Table

__all__ = ["attach", "detach", "new_builder", "replace_files", "table_offsets"]

_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16
# Slots of the root table `Model`.
_VERSION, _SUBGRAPHS, _DESCRIPTION, _BUFFERS, _METADATA_BUFFERS, _METADATA = 0, 2, 3, 4, 5, 6
_LISTS_OF_TABLES = (1, 2, 4, 6, 7, 8, 9)
_FIRST_UNKNOWN = 10
# Zip cannot say "no time"; this is its first one, so that equal contents make equal bytes.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


def attach(tflite: bytes, *, name: str, data: bytes, files: Mapping[str, bytes]) -> bytes:
    """Put a named metadata buffer and files into a model file, in the place of those that it has.

    Args:
        tflite: The model, with or without attachments.
        name: Of the metadata entry, e.g. "TFLITE_METADATA"; entries of other names stay.
        data: The buffer's content.
        files: Name to content, in this order. They replace every file that was attached before.

    Returns:
        The same bytes whether the model had these attachments already or not.

    Raises:
        DamagedModelError: It is no TFLite file, or its structure is damaged.
        MetadataError: The zip at its end is damaged.
        ModelError: It keeps weights outside the flatbuffer (above 2 GB), or its schema is newer than this
            writer.
    """
    body = detach(tflite)
    with_head = _head(_root(body), name=name, data=data) + body
    return _with_files(with_head, files) if files else with_head


def detach(tflite: bytes) -> bytes:
    """Return the model without attached files, and without the head that `attach` put before it.

    A metadata buffer that another writer packed into the flatbuffer stays.

    Raises:
        DamagedModelError: It is no TFLite file, or its structure is damaged.
        MetadataError: The zip at its end is damaged.
    """
    data = tflite[: _zip_start(tflite)]
    subgraphs = [table.position for table in _root(data).tables(_SUBGRAPHS)]
    at = data.find(_IDENTIFIER, 8, min(subgraphs, default=0))
    while at > 0:
        start = at - 4
        if start % _ALIGNMENT == 0 and _knows(data[start:], [position - start for position in subgraphs]):
            return data[start:]
        at = data.find(_IDENTIFIER, at + 1, min(subgraphs))
    return data


def replace_files(tflite: bytes, files: Mapping[str, bytes]) -> bytes:
    """Return the model with these files attached and no others; its metadata buffers stay as they are.

    Raises:
        MetadataError: The zip at its end is damaged.
    """
    return _with_files(tflite[: _zip_start(tflite)], files)


def _knows(data: bytes, subgraphs: Sequence[int]) -> bool:
    """Tell whether this is a whole file with its subgraphs at these places."""
    try:
        return [table.position for table in _root(data).tables(_SUBGRAPHS)] == list(subgraphs)
    except DamagedModelError:
        return False


def _root(data: bytes) -> Table:
    return FlatBuffer(data).root(_IDENTIFIER)


def _zip_start(tflite: bytes) -> int:
    stream = io.BytesIO(tflite)
    if not zipfile.is_zipfile(stream):
        return len(tflite)
    try:
        with zipfile.ZipFile(stream) as archive:
            return min((info.header_offset for info in archive.infolist()), default=archive.start_dir)
    except (zipfile.BadZipFile, struct.error, NotImplementedError) as error:
        raise MetadataError(
            "The files attached to the model cannot be read.",
            received=str(error),
            expected="a zip, as TFLite Metadata appends label files",
        ) from error


def _with_files(model: bytes, files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    stream.write(model)
    # Stored: MediaPipe and Android map the file into memory and read labels in place.
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, _NO_TIME)
            info.create_system = 3  # Unix, on whatever system this runs
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return stream.getvalue()


def _head(root: Table, *, name: str, data: bytes) -> bytes:
    """Return a root table that knows everything of the old one and one buffer more.

    A builder writes from the end to the front and counts positions from the end, so what lies `p` bytes
    into the body has the position `-p`.
    """
    _check_supported(root)
    lists = {slot: [-table.position for table in root.tables(slot)] for slot in _LISTS_OF_TABLES}
    builder = new_builder()
    builder.Prep(_ALIGNMENT, len(data))
    content = builder.CreateByteVector(data)
    builder.StartObject(3)
    builder.PrependUOffsetTRelativeSlot(0, content, 0)
    buffer = builder.EndObject()

    index = next((entry.integer(1, "I") for entry in root.tables(_METADATA) if entry.string(0) == name), None)
    if index is None:
        index = len(lists[_BUFFERS])
        lists[_BUFFERS].append(buffer)
    elif index < len(lists[_BUFFERS]):
        lists[_BUFFERS][index] = buffer
    else:
        raise DamagedModelError(f"The metadata `{name}` names a buffer that is not there.", received=str(index))
    text = builder.CreateString(name)
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, text, 0)
    builder.PrependUint32Slot(1, index, 0)
    entry = builder.EndObject()
    lists[_METADATA] = [-other.position for other in root.tables(_METADATA) if other.string(0) != name] + [entry]

    # Engines look into the lists up to the metadata without asking whether they are there.
    slots = {slot: table_offsets(builder, tables) for slot, tables in lists.items() if tables or slot <= _METADATA}
    description = root.string(_DESCRIPTION)
    if description:
        slots[_DESCRIPTION] = builder.CreateString(description)
    numbers = root.integers(_METADATA_BUFFERS)
    if numbers:
        builder.StartVector(4, len(numbers), 4)
        for number in reversed(numbers):
            builder.PrependInt32(number)
        slots[_METADATA_BUFFERS] = builder.EndVector()
    builder.StartObject(max(slots) + 1)
    builder.PrependUint32Slot(_VERSION, root.integer(_VERSION, "I"), 0)
    for slot, position in slots.items():
        builder.PrependUOffsetTRelativeSlot(slot, position, 0)
    builder.Finish(builder.EndObject(), _IDENTIFIER)
    return bytes(builder.Output())


def _check_supported(root: Table) -> None:
    if any(root.integer(slot, "I") for slot in range(_FIRST_UNKNOWN, 2 * _FIRST_UNKNOWN)):
        raise ModelError(
            "The model's root table has fields that this writer does not know.",
            next_step="Write the metadata with a newer edgeinfer.",
        )
    if any(buffer.integer(1, "Q") > 1 for buffer in root.tables(_BUFFERS)):
        raise ModelError(
            "The model keeps its weights outside the flatbuffer, which is only done above 2 GB.",
            next_step="Convert a smaller model: this one does not fit the devices that edgeinfer is for.",
        )


def table_offsets(builder: Any, positions: Sequence[int]) -> int:
    """Write a list of tables that stand at these positions, and return its own."""
    builder.StartVector(4, len(positions), 4)
    for position in reversed(positions):
        builder.PrependUOffsetTRelative(position)
    return int(builder.EndVector())


def new_builder() -> Any:
    """Return an empty `flatbuffers.Builder`.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    try:
        from flatbuffers import Builder
    except ImportError as error:
        raise MissingDependencyError(
            "Writing metadata needs the package `flatbuffers`.",
            received=str(error),
            next_step="pip install flatbuffers",  # a device can annotate too, and has no room for the whole extra
        ) from error
    return Builder(1024)
