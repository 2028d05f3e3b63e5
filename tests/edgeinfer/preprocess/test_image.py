"""What `read_image` makes of files and arrays; expected pixels are by hand, or by the library that wrote the file."""

from __future__ import annotations

import io
import os
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from edgeinfer.errors import InputError, InputFileError, MissingDependencyError
from edgeinfer.preprocess import image as image_module
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.image import read_image

pytestmark = pytest.mark.device

READERS = ["opencv", "pillow"]


@pytest.fixture(params=READERS)
def reader(request):
    if request.param == "opencv":
        pytest.importorskip("cv2", reason="OpenCV is not installed")
    return request.param


def smooth(width=61, height=43):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([(4 * x) % 256, (5 * y) % 256, 255 - x - y], axis=2).astype(np.uint8)


def encoded(picture, kind, **settings):
    file = io.BytesIO()
    if isinstance(picture, np.ndarray):
        picture = PillowImage.fromarray(picture)
    picture.save(file, kind, **settings)
    return file.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, depth, colour_type, rows, extra=b""):
    """Write a PNG as the specification says, without a library; `rows` are its bytes, without filter bytes."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


class TestFiles:
    def test_png_pixels_are_those_that_were_saved(self, reader):
        picture = smooth()
        assert np.array_equal(read_image(encoded(picture, "PNG"), reader=reader), picture)

    def test_a_path_as_text_a_path_object_and_the_bytes_are_the_same_picture(self, reader, tmp_path):
        path = tmp_path / "bird.png"
        path.write_bytes(encoded(smooth(), "PNG"))
        first = read_image(str(path), reader=reader)
        assert np.array_equal(first, read_image(path, reader=reader))
        assert np.array_equal(first, read_image(memoryview(path.read_bytes()), reader=reader))

    def test_red_stays_red(self, reader):
        red = np.zeros((8, 8, 3), np.uint8)
        red[..., 0] = 255
        picture = read_image(encoded(red, "JPEG", quality=95), reader=reader)
        assert picture[4, 4, 0] > 250
        assert picture[4, 4, 1:].max() < 5

    @pytest.mark.parametrize("settings", [
        {"subsampling": 0}, {"subsampling": 2}, {"progressive": True}, {"quality": 30}, {"optimize": True},
    ], ids=str)  # fmt: skip
    def test_both_readers_decode_a_jpeg_alike(self, settings):
        pytest.importorskip("cv2")
        data = encoded(smooth(), "JPEG", **settings)
        by_opencv = read_image(data, reader="opencv").astype(int)
        assert np.abs(by_opencv - read_image(data, reader="pillow")).max() <= 1

    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_a_grey_file_has_three_equal_channels(self, reader, kind):
        grey = smooth()[..., 0]
        picture = read_image(encoded(grey, kind, **({"quality": 100} if kind == "JPEG" else {})), reader=reader)
        assert picture.shape == (43, 61, 3)
        assert (picture == picture[..., :1]).all()
        if kind == "PNG":
            assert np.array_equal(picture[..., 0], grey)

    @pytest.mark.parametrize("kind", ["BMP", "PPM", "TIFF", "GIF"])
    def test_other_kinds_are_read(self, reader, kind):
        grey = smooth()[..., :1].repeat(3, axis=2)  # a GIF holds 256 colours
        assert np.array_equal(read_image(encoded(grey, kind), reader=reader), grey)

    def test_the_result_can_be_written_to(self, reader):
        assert read_image(encoded(smooth(), "JPEG"), reader=reader).flags.writeable
        assert read_image(encoded(smooth(), "BMP"), reader=reader).flags.writeable

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_exif_orientation_is_applied(self, reader, kind, orientation):
        exif = PillowImage.Exif()
        exif[0x0112] = orientation
        data = encoded(smooth(), kind, exif=exif)
        upright = ImageOps.exif_transpose(PillowImage.open(io.BytesIO(data)))
        picture = read_image(data, reader=reader)
        assert picture.shape == np.asarray(upright).shape
        assert np.abs(picture.astype(int) - np.asarray(upright)).max() <= 1

    def test_orientation_6_shows_the_first_stored_row_at_the_right(self, reader):
        exif = PillowImage.Exif()
        exif[0x0112] = 6
        stored = np.zeros((16, 32, 3), np.uint8)
        stored[:8] = 255
        picture = read_image(encoded(stored, "JPEG", exif=exif), reader=reader)
        assert picture.shape == (32, 16, 3)
        assert picture[:, 12:].min() > 200
        assert picture[:, :4].max() < 50

    def test_an_orientation_that_does_not_exist_changes_nothing(self, reader):
        exif = PillowImage.Exif()
        exif[0x0112] = 77
        assert read_image(encoded(smooth(), "JPEG", exif=exif), reader=reader).shape == (43, 61, 3)

    def test_exif_notes_that_are_garbage_do_not_matter(self, reader):
        if reader == "pillow" and sys.maxsize <= 2**32:
            pytest.skip("Pillow itself refuses notes that begin beyond 2 GB where a number has 32 bits")
        data = encoded(smooth(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
        assert read_image(data, reader=reader).shape == (43, 61, 3)

    def test_a_picture_of_pillow_is_the_same_as_its_file(self):
        exif = PillowImage.Exif()
        exif[0x0112] = 8
        data = encoded(smooth(), "JPEG", exif=exif)
        opened = PillowImage.open(io.BytesIO(data))
        assert np.array_equal(read_image(opened), read_image(data, reader="pillow"))


class TestColours:
    def test_cmyk_of_adobe_becomes_rgb(self, reader):
        red = PillowImage.new("CMYK", (16, 16), (0, 255, 255, 0))
        picture = read_image(encoded(red, "JPEG", quality=95), reader=reader)
        assert np.abs(picture[8, 8].astype(int) - (255, 0, 0)).max() <= 3

    def test_16_bit_grey_keeps_the_upper_byte(self, reader):
        row = struct.pack(">4H", 0x1234, 0xFFFF, 0x00FF, 0x8000)
        picture = read_image(png(4, 1, 16, 0, [row]), reader=reader)
        assert picture[0, :, 0].tolist() == [0x12, 0xFF, 0x00, 0x80]
        assert (picture == picture[..., :1]).all()

    def test_16_bit_rgb_keeps_the_upper_bytes(self, reader):
        row = struct.pack(">6H", 0x1234, 0x56FF, 0x9A00, 0xFFFF, 0x00FF, 0x0100)
        picture = read_image(png(2, 1, 16, 2, [row]), reader=reader)
        assert picture.tolist() == [[[0x12, 0x56, 0x9A], [0xFF, 0x00, 0x01]]]

    def test_alpha_is_composited_over_black(self, reader):
        rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 128], [200, 100, 50, 0]]], np.uint8)
        picture = read_image(encoded(rgba, "PNG"), reader=reader)
        # 200 * 128 / 255 = 100.4, 100 * 128 / 255 = 50.2, 50 * 128 / 255 = 25.1
        assert picture.tolist() == [[[200, 100, 50], [100, 50, 25], [0, 0, 0]]]

    def test_grey_with_alpha_is_composited_over_black(self, reader):
        picture = read_image(png(2, 1, 8, 4, [bytes([200, 128, 200, 255])]), reader=reader)
        assert picture.tolist() == [[[100, 100, 100], [200, 200, 200]]]

    def test_a_palette_with_transparency_is_composited_over_black(self, reader):
        palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0])) + chunk(b"tRNS", bytes([0, 255]))
        picture = read_image(png(2, 1, 8, 3, [bytes([0, 1])], palette), reader=reader)
        assert picture.tolist() == [[[0, 0, 0], [0, 255, 0]]]

    def test_a_transparent_colour_of_an_rgb_png_is_black(self, reader):
        key = chunk(b"tRNS", struct.pack(">3H", 10, 20, 30))
        picture = read_image(png(2, 1, 8, 2, [bytes([10, 20, 30, 40, 50, 60])], key), reader=reader)
        assert picture.tolist() == [[[0, 0, 0], [40, 50, 60]]]

    def test_one_bit_is_black_and_white(self, reader):
        assert read_image(png(2, 1, 1, 0, [b"\x40"]), reader=reader)[0, :, 0].tolist() == [0, 255]

    def test_an_animation_gives_its_first_frame(self, reader):
        red, blue = (PillowImage.new("RGB", (6, 5), colour) for colour in ((255, 0, 0), (0, 0, 255)))
        data = encoded(red, "GIF", save_all=True, append_images=[blue])
        picture = read_image(data, reader=reader)
        assert picture.shape == (5, 6, 3)
        assert (picture == (255, 0, 0)).all()

    def test_pixels_of_32_bits_are_refused(self, reader):
        with pytest.raises(InputError, match="32 bits"):
            read_image(encoded(PillowImage.new("F", (4, 4)), "TIFF"), reader=reader)


class TestDamage:
    def test_a_missing_file_is_an_input_file_error(self, reader, tmp_path):
        with pytest.raises(InputFileError, match="missing"):
            read_image(tmp_path / "missing.jpg", reader=reader)

    def test_the_systems_error_numbers_are_left_out(self, tmp_path):
        with pytest.raises(InputFileError) as caught:
            read_image(tmp_path / "missing.jpg")
        assert caught.value.received == "No such file or directory"

    def test_a_folder_is_called_one_and_the_way_to_its_pictures_is_shown(self, tmp_path):
        with pytest.raises(InputFileError, match="is a folder, not a picture") as caught:
            read_image(tmp_path)
        assert f"{tmp_path}/*.jpg" in caught.value.next_step
        assert "Errno" not in str(caught.value)

    def test_a_folder_and_a_null_byte_are_input_file_errors(self, tmp_path):
        for path in (tmp_path, "a\0b"):
            with pytest.raises(InputFileError):
                read_image(path)

    def test_an_empty_file_is_refused(self, reader, tmp_path):
        path = tmp_path / "empty.jpg"
        path.touch()
        with pytest.raises(InputError, match="is empty"):
            read_image(path, reader=reader)

    @pytest.mark.parametrize(
        "data", [b"garbage" * 50, b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"%!PS"], ids=repr
    )
    def test_garbage_is_refused(self, reader, data):
        with pytest.raises(InputError, match="cannot be read as a picture") as caught:
            read_image(data, reader=reader)
        assert " at 0x" not in str(caught.value)

    @pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.999])
    @pytest.mark.parametrize("settings", [{}, {"progressive": True}], ids=["baseline", "progressive"])
    def test_a_jpeg_that_is_cut_off_is_refused(self, reader, share, settings):
        data = encoded(smooth(400, 300), "JPEG", **settings)
        with pytest.raises(InputError):
            read_image(data[: int(len(data) * share)], reader=reader)

    def test_a_jpeg_with_something_behind_its_end_is_read(self, reader):
        assert read_image(encoded(smooth(), "JPEG") + b"\0" * 40, reader=reader).shape == (43, 61, 3)

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    def test_a_png_that_is_cut_off_is_refused(self, reader, share):
        data = encoded(np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8), "PNG")
        with pytest.raises(InputError):
            read_image(data[: int(len(data) * share)], reader=reader)

    def test_a_png_with_a_changed_byte_is_refused(self, reader):
        data = bytearray(encoded(np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8), "PNG"))
        data[len(data) // 2] ^= 0xFF
        with pytest.raises(InputError):
            read_image(bytes(data), reader=reader)

    def test_both_readers_accept_the_same_damaged_files(self):
        pytest.importorskip("cv2")
        rng = np.random.default_rng(7)
        for kind in ("JPEG", "PNG"):
            whole = encoded(smooth(), kind)
            for _ in range(40):
                data = bytearray(whole)
                data[rng.integers(len(data))] ^= int(rng.integers(1, 256))
                answers = []
                for reader in READERS:
                    try:
                        answers.append(read_image(bytes(data), reader=reader).shape)
                    except InputError:
                        answers.append(None)
                assert answers[0] == answers[1]


def jpeg_header(width, height):
    frame = struct.pack(">BHHB", 8, height, width, 3) + bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    scan = bytes([3, 1, 0, 2, 0, 3, 0, 0, 63, 0])
    segments = b"".join(
        b"\xff" + bytes([mark]) + struct.pack(">H", len(body) + 2) + body
        for mark, body in ((0xC0, frame), (0xDA, scan))
    )
    return b"\xff\xd8" + segments + b"\0" * 64 + b"\xff\xd9"


BOMBS = {
    "PNG": lambda width, height: png(width, height, 8, 2, [b"\0" * 10]),
    "JPEG": jpeg_header,
    "GIF": lambda width, height: b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)
    + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x01\x00\x00;",
    "BMP": lambda width, height: b"BM" + struct.pack("<IHHI", 100, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + b"\0" * 46,
}  # fmt: skip


class TestSize:
    @pytest.mark.parametrize("kind", BOMBS)
    @pytest.mark.parametrize("size", [(20_000, 10_000), (10_100, 10_000)], ids=["200 MP", "101 MP"])
    def test_a_picture_of_too_many_pixels_is_refused_by_its_header(self, reader, kind, size, monkeypatch):
        def decode(*_):
            pytest.fail("it was decoded")

        monkeypatch.setattr(image_module, "_by_opencv", decode)
        monkeypatch.setattr(image_module, "_rgb", decode)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with pytest.raises(InputError, match="too many pixels") as caught:
                read_image(BOMBS[kind](*size), reader=reader)
        assert seen == []
        assert str(size[0] * size[1]) in caught.value.received
        assert "limit" not in caught.value.received  # Pillow's own, twice as high

    def test_pillows_warning_of_large_pictures_does_not_leak(self, reader):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with pytest.raises(InputError, match="cannot be read"):  # 90.25 megapixels are allowed; these are not there
                read_image(png(9_500, 9_500, 1, 0, [b"\0"])[:60], reader=reader)
        assert seen == []

    def test_a_file_that_is_too_large_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(image_module, "MAX_FILE_BYTES", 100)
        path = tmp_path / "large.png"
        path.write_bytes(encoded(smooth(), "PNG"))
        for source in (path, path.read_bytes()):
            with pytest.raises(InputError, match="too large"):
                read_image(source)

    def test_an_array_of_too_many_pixels_is_refused(self):
        huge = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (20_000, 10_000, 3))
        with pytest.raises(InputError, match="too many pixels"):
            read_image(huge)


class TestArrays:
    def test_an_rgb_array_is_not_copied(self):
        picture = smooth()
        assert read_image(picture) is picture

    def test_a_view_is_not_copied(self):
        picture = smooth()
        assert np.shares_memory(read_image(picture[::2, ::-1, ::-1]), picture)

    @pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1)], ids=str)
    def test_grey_is_stacked(self, shape):
        grey = np.arange(12, dtype=np.uint8).reshape(shape)
        picture = read_image(grey)
        assert picture.shape == (3, 4, 3)
        assert all(np.array_equal(picture[..., channel].ravel(), np.arange(12)) for channel in range(3))

    def test_rgba_is_composited_over_black(self):
        assert read_image(np.array([[[200, 100, 50, 128]]], np.uint8)).tolist() == [[[100, 50, 25]]]

    def test_an_object_with_an_array_is_welcome(self):
        class Tensor:
            def __array__(self, dtype=None, copy=None):
                return smooth()

        assert np.array_equal(read_image(Tensor()), smooth())

    @pytest.mark.parametrize("array", [
        np.zeros((4, 4, 3)), np.zeros((4, 4, 3), np.int64), np.zeros((4, 4, 3), bool), np.zeros(5, np.uint8),
        np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((), np.uint8),
    ], ids=lambda array: f"{array.dtype}{array.shape}")  # fmt: skip
    def test_any_other_array_is_refused_with_its_shape_and_dtype(self, array):
        with pytest.raises(InputError) as caught:
            read_image(array)
        assert str(array.shape) in caught.value.received
        assert str(array.dtype) in caught.value.received
        assert "(height, width, 3)" in caught.value.expected

    def test_channels_first_are_refused_with_the_cure(self):
        with pytest.raises(InputError, match=r"transpose\(1, 2, 0\)"):
            read_image(np.zeros((3, 40, 50), np.uint8))

    @pytest.mark.parametrize("thing", [None, 7, [1, 2]], ids=repr)
    def test_what_is_no_picture_at_all_is_refused(self, thing):
        with pytest.raises(InputError, match=type(thing).__name__):
            read_image(thing)


class TestLibraries:
    @pytest.fixture
    def without_opencv(self, monkeypatch):
        libraries.opencv.cache_clear()
        monkeypatch.setitem(sys.modules, "cv2", None)
        yield
        libraries.opencv.cache_clear()

    @pytest.mark.usefixtures("without_opencv")
    def test_pillow_reads_where_opencv_cannot_be_imported(self, caplog):
        with caplog.at_level("DEBUG", logger="edgeinfer"):
            assert np.array_equal(read_image(encoded(smooth(), "PNG")), smooth())
        assert "Pillow stands in for OpenCV" in caplog.text

    @pytest.mark.usefixtures("without_opencv")
    def test_asking_for_a_missing_opencv_names_the_line_to_type(self):
        with pytest.raises(MissingDependencyError, match="pip install opencv-python-headless"):
            read_image(encoded(smooth(), "PNG"), reader="opencv")

    def test_opencv_is_left_out_where_that_is_asked_for_and_not_afterwards(self, monkeypatch):
        monkeypatch.delitem(sys.modules, "cv2", raising=False)
        with libraries.opencv_left_out():
            assert libraries.opencv() is None
            assert "cv2" not in sys.modules
        monkeypatch.undo()
        assert libraries.opencv() is sys.modules.get("cv2")

    def test_an_opencv_that_is_loaded_is_used(self):
        pytest.importorskip("cv2")
        with libraries.opencv_left_out():
            assert libraries.opencv() is sys.modules["cv2"]

    def test_a_reader_that_is_not_known_is_refused(self):
        with pytest.raises(InputError, match='"pillow"'):
            read_image(smooth(), reader="imageio")


@pytest.mark.skipif("EDGEINFER_TEST_DATA" not in os.environ, reason="EDGEINFER_TEST_DATA is not set")
def test_both_readers_decode_real_photos_alike():
    pytest.importorskip("cv2")
    for path in sorted((Path(os.environ["EDGEINFER_TEST_DATA"]) / "imagenet_sample").glob("*.[jJ]*"))[:20]:
        by_opencv = read_image(path, reader="opencv").astype(int)
        assert np.abs(by_opencv - read_image(path, reader="pillow")).max() <= 1, path.name
