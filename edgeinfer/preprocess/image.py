"""Read a picture: a path, bytes or an array becomes RGB pixels, the same on every machine.

Pillow opens each file and reads its header, in either case: one place says what the file is, how large it is and how
it lies. The pixels of plain 8-bit JPEG and PNG files then come from OpenCV where it is there, because it is faster (a
1280x720 JPEG: 2.3 against 4.3 ms; OpenCV 5.0, Pillow 13, x86); both hold libjpeg-turbo, and the pixels are the same.
Everything else (CMYK, 16 bit, palettes, alpha, GIF, files that do not end as they should) comes from Pillow in either
case.

Colour profiles are not applied, by neither reader.
"""

from __future__ import annotations

import io
import re
import struct
import threading
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError, InputFileError
from edgeinfer.preprocess import libraries

if TYPE_CHECKING:
    from PIL import Image as PillowImage

Image: TypeAlias = NDArray[np.uint8]  # (height, width, 3) RGB
Reader = Literal["opencv", "pillow"]

# Bounds what a hostile file can cost: 100 megapixels of RGB are 300 MB.
MAX_PIXELS = 100_000_000
MAX_FILE_BYTES = 256 * 2**20

# Named, so that no exotic plugin ever runs (EPS would start Ghostscript). WEBP and TIFF come last, because
# Pillow imports all of its plugins when it reaches the first that is not one of its usual five.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF")
# How files of the usual kinds begin, and what of Pillow opens them. `Image.open` would first import five of its
# plugins: 40 million instructions on an arm64 processor, a tenth of a start.
_OPENERS = (
    (b"\xff\xd8\xff", "JpegImagePlugin", "jpeg_factory"),
    (b"\x89PNG\r\n\x1a\n", "PngImagePlugin", "PngImageFile"),
    (b"BM", "BmpImagePlugin", "BmpImageFile"),
)
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
_JPEG_END = b"\xff\xd9"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
# A PNG may say in one of these chunks how it lies; only Pillow reads them, and only while it decodes.
_PNG_ORIENTATION = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
_ORIENTATION_TAG = 0x0112  # Source: Exif 2.32, section 4.6.4, tag 274
# The warning filters belong to the process, so two threads must not change them at the same time.
_WARNING_FILTERS = threading.Lock()


class ArrayLike(Protocol):
    """What NumPy can turn into an array: a picture of Pillow, a tensor of TensorFlow or PyTorch."""

    def __array__(self) -> NDArray[Any]:
        """Return the array."""
        ...


Source: TypeAlias = "str | Path | bytes | bytearray | memoryview | NDArray[Any] | ArrayLike"


def read_image(source: Source, *, reader: Reader | None = None) -> Image:
    """Read one picture as RGB.

    Args:
        source: A path, the bytes of a file, or an array: uint8 of shape (height, width, 3) RGB, (height,
            width) or (height, width, 1) grey, (height, width, 4) RGBA. Alpha is composited over black.
            Pictures of Pillow and other objects with `__array__` are welcome.
        reader: Which library decodes plain JPEG and PNG; None chooses OpenCV where it is installed, else
            Pillow.

    Returns:
        (height, width, 3) uint8 RGB, upright by its EXIF orientation. 16-bit files keep the upper byte
        (`value >> 8`), of an animation the first frame. An RGB array is returned as it is, not copied.

    Raises:
        InputFileError: The file is not there or cannot be read.
        InputError: It is empty, damaged, cut off, larger than `MAX_FILE_BYTES` or `MAX_PIXELS` (seen before
            decoding), of a kind that is not read; or the array is no picture.
        MissingDependencyError: `reader="opencv"` and OpenCV cannot be imported.
    """
    if reader is not None and reader not in get_args(Reader):
        raise InputError("This reader is not known.", received=repr(reader), expected='"opencv", "pillow", None')
    if isinstance(source, (str, Path)):
        return _decode(_read_file(Path(source)), f"`{source}`", reader)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(bytes(source), "The picture", reader)
    if type(source).__module__.split(".")[0] == "PIL":
        return _from_pillow(source)
    if not hasattr(source, "__array__"):
        raise InputError(
            "This is not a picture.",
            received=f"an object of type `{type(source).__name__}`",
            expected="a path, the bytes of a file, or an array",
        )
    return _from_array(np.asarray(source))


def check_image(image: NDArray[Any]) -> None:
    """Refuse everything but (height, width, 3) uint8.

    Raises:
        InputError: Another shape or dtype, or no pixels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise _not_a_picture(image)


def _from_array(array: NDArray[Any]) -> Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.size == 0:
        raise _not_a_picture(array)
    channels = 1 if array.ndim == 2 else array.shape[2]
    if channels not in (1, 3, 4):
        raise _not_a_picture(array)
    _check_size(array.shape[1], array.shape[0], "The array")
    if channels == 3:
        return array
    if channels == 4:
        return _over_black(array)
    return _stack(array.reshape(array.shape[:2]))


def _not_a_picture(array: NDArray[Any]) -> InputError:
    next_step = ""
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.dtype == np.uint8 and array.size:
        next_step = "If the channels come first, move them: `image.transpose(1, 2, 0)`."
    elif array.dtype.kind == "f":
        next_step = "Floats are taken as the model's own input, not as a picture; for a picture, hand over uint8."
    return InputError(
        "This array is not a picture.",
        received=f"shape {array.shape}, dtype {array.dtype}",
        expected="uint8 (height, width, 3) RGB, (height, width) grey or (height, width, 4) RGBA, not empty",
        next_step=next_step,
    )


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except IsADirectoryError as error:
        raise InputFileError(
            f"`{path}` is a folder, not a picture.",
            expected="a picture file",
            next_step=f"Name the pictures in it, e.g. `{path / '*.jpg'}` on the command line.",
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise InputFileError(f"The picture `{path}` cannot be read.", received=reason, expected="a file") from error
    if len(data) > MAX_FILE_BYTES:
        raise InputError(
            f"`{path}` is too large for a picture.",
            received=f"more than {MAX_FILE_BYTES} bytes",
            expected=f"at most {MAX_FILE_BYTES} bytes",
        )
    return data


def _decode(data: bytes, name: str, reader: Reader | None) -> Image:
    cv2 = None
    if reader == "opencv":
        cv2 = libraries.require_opencv()
    elif reader is None:
        cv2 = libraries.opencv()
    if not data:
        raise InputError(f"{name} is empty.", received="0 bytes", expected="a picture file")
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{name} is too large.", received=f"{len(data)} bytes", expected=f"at most {MAX_FILE_BYTES}")
    picture = _open(data, name)
    if cv2 is not None and _is_plain(picture, data):
        pixels = _by_opencv(cv2, data)
        # A file that OpenCV refuses gets its second opinion, so that both readers accept the same files.
        if pixels is not None and pixels.shape[1::-1] == picture.size:
            return _upright(pixels, _orientation(picture) if picture.format == "JPEG" else 1)
    return _from_pillow(picture, name)


def _open(data: bytes, name: str) -> PillowImage.Image:
    """Read the header, and no pixel."""
    pillow = libraries.pillow()
    try:
        # Pillow warns of large pictures, which are refused below, and of blemishes in a file's notes, which
        # do not matter here; what matters is raised.
        with _WARNING_FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture: PillowImage.Image = _opened(data) or pillow.open(io.BytesIO(data), formats=_FORMATS)
    except pillow.DecompressionBombError as error:
        # Pillow has a limit of its own, twice as high: named beside ours it would only confuse.
        counted = re.search(r"\((\d+) pixels\)", str(error))
        raise InputError(
            f"{name} has too many pixels.",
            received=f"{counted[1]} pixels" if counted else "more than Pillow opens",
            expected=f"at most {MAX_PIXELS} pixels",
        ) from error
    except pillow.UnidentifiedImageError as error:
        # Pillow's own words name the object in memory and not what is wrong.
        raise _unreadable(name, f"{len(data)} bytes that begin with {data[:8]!r}") from error
    except Exception as error:  # on garbage the plugins raise whatever happens first: struct.error, KeyError, ...
        raise _unreadable(name, f"{type(error).__name__}: {error}") from error
    _check_size(*picture.size, name)
    return picture


def _opened(data: bytes) -> PillowImage.Image | None:
    """Open a file of the usual kinds, or return None: `Image.open` then has the last word."""
    for start, plugin, opener in _OPENERS:
        if data.startswith(start):
            try:
                picture: PillowImage.Image = getattr(libraries.pillow_plugin(plugin), opener)(io.BytesIO(data))
            except (SyntaxError, IndexError, TypeError, struct.error):  # how a plugin says that the file is not its own
                return None
            return picture
    return None


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{name} has too many pixels.",
            received=f"{width} x {height} = {width * height} pixels",
            expected=f"at most {MAX_PIXELS} pixels",
        )


def _unreadable(name: str, received: str) -> InputError:
    return InputError(
        f"{name} cannot be read as a picture: it is damaged, cut off, or of another kind.",
        received=received,
        expected=f"a file of one of these kinds: {', '.join(_FORMATS)}",
    )


def _is_plain(picture: PillowImage.Image, data: bytes) -> bool:
    """Say whether both libraries decode this file alike: 8-bit grey or RGB, no alpha, its end in place.

    A JPEG that is cut off must not reach OpenCV: versions of it fill the rest with grey and say nothing.
    """
    if picture.mode not in ("L", "RGB") or "transparency" in picture.info:
        return False
    if picture.format == "JPEG":
        return data.endswith(_JPEG_END)
    if picture.format == "PNG":
        depth = data[24]  # Source: PNG 1.2, section 11.2.2: IHDR is the first chunk, its ninth byte the bit depth
        return depth == 8 and data.endswith(_PNG_END) and not any(mark in data for mark in _PNG_ORIENTATION)
    return False


def _by_opencv(cv2: ModuleType, data: bytes) -> Image | None:
    """Decode, or return None where OpenCV refuses; the file's orientation is left to `_upright`."""
    try:
        decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if decoded is None:
            return None
        pixels: Image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    except cv2.error:
        return None
    return pixels


def _from_pillow(picture: Any, name: str = "The picture") -> Image:
    _check_size(picture.width, picture.height, name)
    try:
        picture.load()
        # After loading: some plugins turn the picture themselves then, and take the tag away.
        return _upright(_rgb(picture, name), _orientation(picture))
    except InputError:
        raise
    except Exception as error:  # a damaged file makes the decoders raise OSError, ValueError, SyntaxError, ...
        raise _unreadable(name, f"{type(error).__name__}: {error}") from error


def _rgb(picture: Any, name: str) -> Image:
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        # Pillow does the same for 16-bit RGB: it keeps the upper byte.
        return _stack((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise InputError(
            f"{name} has pixels of 32 bits, and nothing says what range they have.",
            received=f"mode {picture.mode}",
            expected="8 or 16 bits per channel",
        )
    if picture.mode in _ALPHA_MODES or "transparency" in picture.info:
        return _over_black(np.asarray(picture.convert("RGBA")))
    return np.array(picture.convert("RGB"))


def _orientation(picture: Any) -> int:
    with _WARNING_FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # blemished notes in the file are no reason to refuse its pixels
        try:
            value = picture.getexif().get(_ORIENTATION_TAG, 1)
        except Exception:  # notes that cannot be parsed say nothing of how the picture lies
            return 1
    return value if isinstance(value, int) else 1


def _upright(pixels: Image, orientation: int) -> Image:
    """Turn and mirror as the EXIF tag says.

    Source: Exif 2.32, section 4.6.4, tag 274: the value names the sides at which row 0 and column 0 are seen.
    """
    if orientation not in range(2, 9):
        return pixels
    if orientation >= 5:  # row 0 is seen at the left or right side
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _stack(grey: NDArray[np.uint8]) -> Image:
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def _over_black(rgba: NDArray[np.uint8]) -> Image:
    """Composite over black: `colour * alpha / 255`, rounded; 255 is odd, so there are no ties."""
    product = rgba[:, :, :3].astype(np.uint16)
    product *= rgba[:, :, 3:]
    product += 127
    product //= 255
    return product.astype(np.uint8)
