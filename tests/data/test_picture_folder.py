"""A folder of pictures of any sizes: brought to one size, faults named where they are met."""

import numpy as np
import pytest
from PIL import Image

from dfx import data
from dfx.errors import PersonError


def smooth(height, width, channels=3):
    """A picture that is linear in both directions."""
    rows, columns = np.mgrid[:height, :width]
    ramp = 40 + 100 * rows / height + 80 * columns / width
    return np.repeat(ramp[..., None], channels, -1).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, make):
    """Four pictures of three classes, of different sizes and kinds."""
    make.put(tmp_path / "val" / "n02" / "a.JPEG", make.encode(smooth(70, 90), "JPEG"))
    make.put(tmp_path / "val" / "n01" / "b.png", make.encode(smooth(32, 16)))
    make.put(tmp_path / "val" / "n01" / "a.png", make.encode(smooth(16, 16, 1)))
    make.put(tmp_path / "val" / "n10" / "c.png", make.encode(smooth(300, 20)))
    return tmp_path


def test_pictures_of_all_sizes_come_at_one_size_with_sorted_classes(folder):
    records = data.open_records("folder", folder, "val", size=16)
    images, labels = records.take(np.array([3, 0, 1, 2]))
    assert images.shape == (4, 16, 16, 3) and images.dtype == np.uint8
    np.testing.assert_array_equal(labels, [2, 0, 0, 1])
    assert records.classes == ("n01", "n02", "n10")
    np.testing.assert_array_equal(images[1], np.repeat(smooth(16, 16, 1), 3, -1))
    assert not data.faults(records)


def test_a_square_picture_of_the_size_is_untouched():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(data.centre_square(image, 8), image)


@pytest.mark.parametrize("shape", [(9, 31), (64, 8), (17, 16), (100, 333)])
def test_a_plain_picture_stays_plain(shape):
    image = np.full((*shape, 3), (3, 77, 255), np.uint8)
    np.testing.assert_array_equal(data.centre_square(image, 8), image[:8, :1].repeat(8, 1)[:8])


def test_a_picture_four_times_the_size_is_halved_twice_by_means():
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 1), np.uint8)
    halved = image.astype(float)
    for _ in range(2):
        halved = halved.reshape(halved.shape[0] // 2, 2, -1, 2, 1).mean((1, 3))
    # Each of the two halvings rounds to bytes twice, along the rows and along the columns.
    np.testing.assert_allclose(data.centre_square(image, 8), halved, rtol=0, atol=2)


def test_the_middle_is_kept_and_the_aspect_too():
    # Three squares side by side: the middle one is what is left.
    image = np.zeros((8, 24, 1), np.uint8)
    image[:, 8:16] = smooth(8, 8, 1)
    np.testing.assert_array_equal(data.centre_square(image, 8), smooth(8, 8, 1))
    np.testing.assert_array_equal(
        data.centre_square(image.swapaxes(0, 1), 8), smooth(8, 8, 1).swapaxes(0, 1)
    )


def test_a_linear_picture_is_resized_to_the_same_ramp():
    # Pixel centres of a ramp v(u) = 255 u, u in (0, 1); bicubic keeps a line away from the edges.
    ramp = np.round(255 * (np.arange(30) + 0.5) / 30)
    image = np.tile(ramp[None, :, None], (30, 1, 1)).astype(np.uint8)
    wanted = 255 * (np.arange(20) + 0.5) / 20
    # Rounding of the source and of the result.
    np.testing.assert_allclose(data.centre_square(image, 20)[10, 2:-2, 0], wanted[2:-2], atol=1.01)


def test_an_edge_is_overshot_as_by_a_cubic_kernel():
    """Linear means would stay between 100 and 200."""
    image = np.where(np.arange(30)[None, :, None] < 14, 100, 200).repeat(30, 0).astype(np.uint8)
    row = data.centre_square(image, 20)[10, :, 0]
    assert row.min() < 98 and row.max() > 202
    np.testing.assert_array_equal(row[[0, -1]], [100, 200])


def test_a_torn_picture_is_named_when_it_is_met(folder):
    torn = folder / "val" / "n02" / "a.JPEG"
    torn.write_bytes(torn.read_bytes()[:300])
    records = data.picture_folder(folder, "val", 16)
    records.take(np.array([0, 1, 3]))
    with pytest.raises(data.DataError, match="not a whole picture") as caught:
        records.take(np.array([0, 2]))
    assert str(caught.value).startswith(str(torn)) and "\n" not in str(caught.value)
    (line,) = data.faults(records)
    assert line == str(caught.value)


def test_a_picture_that_is_gone_is_named(folder):
    records = data.picture_folder(folder, "val", 16)
    (folder / "val" / "n10" / "c.png").unlink()
    with pytest.raises(data.DataError, match=r"c\.png: cannot be read"):
        records.take(np.array([3]))


def test_colour_is_not_made_grey_silently(folder):
    with pytest.raises(data.DataError, match=r"b\.png: colour picture, allowed here: grey"):
        data.picture_folder(folder, "val", 16, channels=1).take(np.array([1]))


def test_four_colours_become_three(tmp_path):
    (tmp_path / "train" / "x").mkdir(parents=True)
    picture = Image.fromarray(smooth(20, 20)).convert("CMYK")
    picture.save(tmp_path / "train" / "x" / "a.jpg", quality=100)
    ((image,), _) = data.picture_folder(tmp_path, size=20).take(np.array([0]))
    # JPEG at its best quality, and two changes of colour space.
    np.testing.assert_allclose(image.astype(int), smooth(20, 20), rtol=0, atol=4)


@pytest.mark.parametrize(
    ("arrange", "expected"),
    [
        (lambda root: (root / "n03").mkdir(), "n03: class folder without pictures"),
        (lambda root: (root / "x.png").touch(), "picture beside class folders"),
        (lambda root: (root / "n01" / "notes.txt").touch(), "notes.txt: no picture"),
        (lambda root: (root / "n01" / "d.png").mkdir(), "d.png: no picture"),
        (lambda root: root.rename(root.parent / "other"), "val: no such folder"),
    ],
)
def test_a_folder_that_could_be_misread_is_an_error(folder, arrange, expected):
    arrange(folder / "val")
    with pytest.raises(data.DataError, match=expected):
        data.picture_folder(folder, "val")


def test_a_folder_without_classes_and_a_wrong_size_are_errors(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(data.DataError, match="no class folders here"):
        data.picture_folder(tmp_path)
    for options in ({"size": 0}, {"channels": 2}):
        with pytest.raises(PersonError, match="allowed: size from 1 up, 1 or 3 channels"):
            data.picture_folder(tmp_path, **options)
