"""What travels with a model beside its graph: the TFLite Metadata buffer and the files zipped to the end.

Files are read by name, in memory, up to a size; nothing is ever extracted to a disk.

Source: `metadata_schema.fbs` in tensorflow/tflite-support; slot numbers are the order of its fields.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import MappingProxyType

from edgeinfer.errors import MetadataError
from edgeinfer.frozen import dataclass
from edgeinfer.model.flatbuffer import FlatBuffer, Table

ENTRY_NAME = "TFLITE_METADATA"
_IDENTIFIER = b"M001"

# The 1001 names of ImageNet take 22 kB; a zip bomb ends here.
MOST_FILE_BYTES = 8 * 1024 * 1024
_MOST_ENTRIES = 1000

_AXIS_LABELS, _VALUE_LABELS = 2, 3
_IMAGE_PROPERTIES, _NORMALIZATION_OPTIONS = 2, 1


@dataclass(frozen=True, slots=True)
class TensorNotes:
    """What TFLite Metadata says of one input or output.

    Attributes:
        name: For people; may be empty.
        colour: Number of ColorSpaceType (1 is RGB, 2 is grayscale), or None where it is not called a picture.
        mean: One value, one per channel, or none, in pixel units.
        std: As many as `mean`.
        axis_labels: Name of the file with one label per element along the last axis; empty for none.
        value_labels: Name of the file with labels that the tensor's values point to; empty for none.
    """

    name: str = ""
    colour: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    axis_labels: str = ""
    value_labels: str = ""


@dataclass(frozen=True, slots=True)
class ModelNotes:
    """What TFLite Metadata says of the model; empty where the file has none."""

    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    inputs: tuple[TensorNotes, ...] = ()
    outputs: tuple[TensorNotes, ...] = ()


def read_notes(data: bytes) -> ModelNotes:
    """Read a TFLite Metadata buffer.

    Args:
        data: The buffer, a flatbuffer of its own.

    Raises:
        DamagedModelError: It is none, or damaged.
    """
    root = FlatBuffer(data, "The TFLite Metadata").root(_IDENTIFIER)
    subgraphs = root.tables(3)
    inputs, outputs = (subgraphs[0].tables(2), subgraphs[0].tables(3)) if subgraphs else ([], [])
    return ModelNotes(
        name=root.string(0),
        description=root.string(1),
        version=root.string(2),
        author=root.string(4),
        license=root.string(5),
        inputs=tuple(_tensor_notes(table) for table in inputs),
        outputs=tuple(_tensor_notes(table) for table in outputs),
    )


def _tensor_notes(table: Table) -> TensorNotes:
    colour = None
    content = table.table(3)
    if content is not None and content.integer(0, "B") == _IMAGE_PROPERTIES:
        properties = content.table(1)
        colour = 0 if properties is None else properties.integer(0, "b")
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    for unit in table.tables(4):
        options = unit.table(1)
        if options is not None and unit.integer(0, "B") == _NORMALIZATION_OPTIONS:
            mean, std = options.reals(0), options.reals(1)
    files = table.tables(6)
    return TensorNotes(
        table.string(0), colour, mean, std, _label_file(files, _AXIS_LABELS), _label_file(files, _VALUE_LABELS)
    )


def _label_file(files: list[Table], kind: int) -> str:
    """Return the name of the first label file of a kind, one without a locale before the translated ones."""
    fitting = [(bool(file.string(3)), file.string(0)) for file in files if file.integer(2, "b") == kind]
    return min(fitting, key=lambda one: one[0])[1] if fitting else ""


def read_files(data: bytes, *, limit_bytes: int = MOST_FILE_BYTES) -> Mapping[str, bytes]:
    """Return the files that are zipped to the end of a model, by name; empty where there are none.

    Args:
        data: The whole file.
        limit_bytes: Refuse more than this, unpacked and together.

    Raises:
        MetadataError: The zip is damaged, has a password, or unpacks to more than the limit.
    """
    # An end-of-archive record has 22 bytes and a comment of at most 65 535; most models have none.
    if data.rfind(b"PK\x05\x06", max(0, len(data) - 22 - 65_535)) < 0:
        return MappingProxyType({})
    import zipfile  # these two cost 3 ms, which models without files need not pay
    import zlib

    found: dict[str, bytes] = {}
    left = limit_bytes
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > _MOST_ENTRIES:
                raise _unreadable(f"{len(entries)} files", f"at most {_MOST_ENTRIES}")
            for entry in entries:
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise _unreadable(
                        f"`{entry.filename}` packed by method {entry.compress_type}", "stored or deflated"
                    )
                # What the entry claims is not trusted: the read itself stops at the limit.
                with archive.open(entry) as stream:
                    content = stream.read(left + 1)
                left -= len(content)
                if left < 0:
                    raise _unreadable(f"more than {limit_bytes} bytes, unpacked", f"at most {limit_bytes}")
                found[entry.filename] = content
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, LookupError) as error:
        if isinstance(error, MetadataError):
            raise
        raise _unreadable(str(error) or type(error).__name__) from error
    return MappingProxyType(found)


def _unreadable(received: str, expected: str = "") -> MetadataError:
    return MetadataError(
        "The files attached to the model cannot be read.",
        received=received,
        expected=expected or "a zip, as TFLite Metadata appends label files",
    )
