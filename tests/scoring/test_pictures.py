"""What is drawn on the images of a moment."""

import numpy as np

from dfmodels.scoring import pictures


def test_the_brighter_the_map_the_less_of_the_crop():
    crop = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    values = np.zeros((4, 4), np.float32)
    values[0] = 1
    drawn = pictures.overlay(crop, values).astype(float)
    grey = crop.mean(-1)
    np.testing.assert_allclose(drawn[1:].mean(-1), 0.75 * grey[1:], atol=2.5)  # over black, the least of the colours
    np.testing.assert_allclose(drawn[0].mean(-1), 0.15 * grey[0] + 0.85 * np.mean([252, 255, 164]), atol=2)


def test_the_box_is_drawn_on_a_copy():
    image = np.full((180, 320, 3), 128, np.uint8)
    drawn = pictures.boxed(image, (80, 40, 200, 160))
    assert (image == 128).all()
    assert (drawn[40, 120] == (255, 214, 10)).all()
    assert (drawn[100, 140] == 128).all()
    assert pictures.boxed(image[::-1, ::-1], (0, 0, 320, 180)).shape == image.shape


def test_the_box_of_a_small_image_hides_little_of_it():
    drawn = pictures.boxed(np.full((32, 64, 3), 128, np.uint8), (0, 0, 64, 32))
    assert drawn.shape == (160, 320, 3)
    assert (drawn[4:-4, 4:-4] == 128).all()
    assert (drawn[0, 100] == (255, 214, 10)).all()
