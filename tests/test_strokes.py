"""strokes: digits that look written, whose factors do what their names say.

What a factor does is measured on the pixels: ink, centroid, second moments and widths
of the images, never by the formula that drew them.
"""

import math
from itertools import pairwise

import pytest
import torch
from scipy import stats
from sklearn.neighbors import KNeighborsClassifier
from torch.nn.functional import avg_pool2d

from vae_teach import strokes, words

SPREADS = {  # mean and standard deviation, before the tails are cut off
    "slant": (0.1, 0.18),
    "thickness": (2.6, 0.5),
    "rotation": (0.0, 5.0),
    "scale": (0.98, 0.06),
    "shift_x": (0.0, 0.5),
    "shift_y": (0.0, 0.5),
}
CONTINUOUS = [*SPREADS, "style"]


@pytest.fixture(scope="module")
def many():
    return strokes.digits(6000, seed=0)


@pytest.fixture
def wild():
    """Return 200 digits, 20 of each, as they come."""
    return strokes.sample_factors(200, seed=3)


def plain(*labels, style=0.0):
    """Return factors of the upright, undisturbed digit of each label."""
    still = torch.zeros(len(labels))
    return strokes.Factors(
        label=torch.tensor(labels),
        slant=still,
        thickness=still + 2.5,
        rotation=still,
        scale=still + 1,
        shift_x=still,
        shift_y=still,
        style=still + style,
        jitter=torch.zeros(len(labels), 13, 2),
    )


def set_all(factors, **values):
    """Return the factors with those named set to one value for all images."""
    fill = {k: torch.full_like(getattr(factors, k), v) for k, v in values.items()}
    return factors._replace(**fill)


def moments(pixels):
    """Return mass, centroid (x, y) and central covariance, y counted down."""
    x = pixels.double().unflatten(1, (28, 28))
    mass = x.sum((1, 2))
    at = torch.arange(28, dtype=torch.float64)
    across, down = x.sum(1) / mass[:, None], x.sum(2) / mass[:, None]
    cx, cy = across @ at, down @ at
    dx, dy = at - cx[:, None], at - cy[:, None]
    xx, yy = (across * dx**2).sum(1), (down * dy**2).sum(1)
    xy = torch.einsum("bij,bi,bj->b", x, dy, dx) / mass
    return mass, cx, cy, xx, xy, yy


def lean(pixels):
    """Return how far ink leans right per pixel up: the slope of x against height."""
    *_, xy, yy = moments(pixels)
    return -xy / yy


# --- what comes out -------------------------------------------------------------------


def test_pixels_are_images_in_256_levels(many):
    pixels, factors = many
    assert pixels.shape == (6000, 784)
    assert pixels.dtype == torch.float32
    assert pixels.min() == 0
    assert pixels.max() == 1
    levels = (pixels.double() * 255).round()
    assert torch.equal((levels / 255).float(), pixels)
    assert levels.unique().numel() == 256
    assert torch.equal(strokes.draw(factors), pixels)


def test_factors_have_the_documented_shapes(many):
    _, factors = many
    assert factors.label.dtype == torch.int64
    assert factors.jitter.shape == (6000, 13, 2)
    for name in CONTINUOUS:
        value = getattr(factors, name)
        assert value.dtype == torch.float32, name
        assert value.shape == (6000,), name


def test_defaults_are_as_many_as_mnist():
    defaults = strokes.digits.__kwdefaults__ | {"n": strokes.digits.__defaults__[0]}
    assert defaults == {"n": 60_000, "seed": 0}


@pytest.mark.parametrize("n", [1, 7, 1003])
def test_classes_are_as_equal_as_can_be_and_shuffled(n):
    label = strokes.sample_factors(n, seed=5).label
    counts = label.bincount(minlength=10)
    assert counts.sum() == n
    assert counts.max() - counts.min() <= 1
    if n > 100:
        assert label[:-1].eq(label[1:]).double().mean() == pytest.approx(0.1, abs=0.05)


def test_same_seed_same_bytes_whatever_the_threads():
    before = torch.get_num_threads()
    drawn = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)  # the global generator has no say
            drawn.append(strokes.digits(700, seed=9))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for pixels, factors in drawn[1:]:
        assert torch.equal(pixels, drawn[0][0])
        for one, other in zip(factors, drawn[0][1], strict=True):
            assert torch.equal(one, other)
    assert not torch.equal(strokes.digits(700, seed=10)[0], drawn[0][0])


def test_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    strokes.digits(20, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_image_depends_on_its_own_factors_only(many):
    pixels, factors = many
    chosen = torch.tensor([5999, 3, 251, 250, 3])
    part = strokes.Factors(*(value[chosen] for value in factors))
    assert torch.equal(strokes.draw(part), pixels[chosen])


def test_proportions_are_those_of_mnist(many):
    pixels, _ = many
    square = pixels.unflatten(1, (28, 28))
    inside = square[:, 4:24, 4:24].sum() / square.sum()
    rim = square.clone()
    rim[:, 1:27, 1:27] = 0
    assert inside > 0.95  # 0.968 for the test images of MNIST
    assert rim.sum() / square.sum() < 2e-3
    assert pixels.mean().item() == pytest.approx(0.13, abs=0.01)  # 0.133
    softness = torch.distributions.Bernoulli(pixels).entropy().sum(1).mean()
    assert softness.item() == pytest.approx(45.5, abs=4)  # nats per image: 45.5


def test_neighbours_tell_the_classes_apart_and_means_do_not(many):
    pixels, factors = many
    x, y = pixels.numpy(), factors.label.numpy()
    three = KNeighborsClassifier(3).fit(x[:5000], y[:5000])
    assert three.score(x[5000:], y[5000:]) >= 0.97
    # Digits all alike would be told apart by their means: these vary too much.
    means = torch.stack([pixels[factors.label == d].mean(0) for d in range(10)])
    nearest = torch.cdist(pixels, means).argmin(1)
    assert (nearest == factors.label).double().mean() < 0.93


def test_most_of_the_variance_is_within_classes(many):
    pixels, factors = many
    total = pixels.var(0).sum()
    within = torch.stack([pixels[factors.label == d].var(0).sum() for d in range(10)])
    assert within.mean() / total > 0.6
    assert within.min() / total > 0.2  # ones too, which have the least ink


# --- what the factors are -------------------------------------------------------------


def test_factors_have_the_documented_spread(many):
    _, factors = many
    cut = 2.3264  # standard normal quantile of 0.99
    for name, (mean, std) in SPREADS.items():
        value = getattr(factors, name).double()
        assert value.mean().item() == pytest.approx(mean, abs=0.05 * std), name
        assert value.std().item() == pytest.approx(0.93 * std, rel=0.05), name
        assert (value - mean).abs().max() <= cut * std + 1e-5, name
        assert (value - mean).abs().max() > 0.97 * cut * std, name
    arcsine = stats.kstest(factors.style.numpy(), stats.arcsine.cdf)
    assert arcsine.statistic < 1.6 / len(factors.style) ** 0.5  # once in a hundred


def test_factors_are_independent(many):
    _, factors = many
    columns = [getattr(factors, name).double() for name in CONTINUOUS]
    columns += [factors.label.double(), *factors.jitter[:, 0].double().T]
    off = torch.corrcoef(torch.stack(columns)) - torch.eye(len(columns))
    assert off.abs().max() < 0.06


def test_jitter_is_smooth_along_the_digit(many):
    _, factors = many
    moved = factors.jitter[factors.label == 0][..., 0].double()  # ten points in a ring
    together = torch.corrcoef(moved[:, :10].T)
    assert together[0, 9] > 0.8  # the two ends of a 0 move together
    assert together[0, 4].abs() < 0.3  # its top and its bottom do not
    assert moved[:, :10].std().item() == pytest.approx(1.1, rel=0.1)


# --- what each factor does, measured on the pixels ------------------------------------


@pytest.mark.parametrize("width", [1.5, 2.5, 3.5])
@pytest.mark.parametrize("scale", [0.85, 1.15])
def test_thickness_is_the_width_of_a_stroke_in_pixels(width, scale):
    one = set_all(plain(1), thickness=width, scale=scale)
    rows = strokes.draw(one).view(28, 28).sum(1)
    assert rows[12:16].mean().item() == pytest.approx(width, abs=0.1)


def test_thickness_alone_adds_ink_and_takes_none(wild):
    thin, thick = (strokes.draw(set_all(wild, thickness=t)) for t in (2.0, 3.0))
    assert (thick >= thin).all()
    ratio = moments(thick)[0] / moments(thin)[0]
    assert ratio.min() > 1.2
    assert ratio.mean().item() == pytest.approx(
        1.45, abs=0.1
    )  # 1.5 less where it folds


@pytest.mark.parametrize(("dx", "dy"), [(1.5, 0.0), (-1.2, 0.0), (0.0, 1.5), (0.7, -1)])
def test_shifts_move_the_centroid_by_as_many_pixels(wild, dx, dy):
    wild = set_all(wild, scale=0.8)  # so that nothing leaves the image
    _, x0, y0, *_ = moments(strokes.draw(set_all(wild, shift_x=0, shift_y=0)))
    _, x1, y1, *_ = moments(strokes.draw(set_all(wild, shift_x=dx, shift_y=dy)))
    for moved, by in ((x1 - x0, dx), (y1 - y0, dy)):
        assert moved.mean().item() == pytest.approx(by, abs=0.01)
        assert (moved - by).abs().max() < 0.15  # pixels round the thin strokes
    centre = torch.stack([x0, y0]) - 13.5
    assert centre.abs().mean() < 0.2  # shift 0 is the middle of the image


@pytest.mark.parametrize("slant", [-0.3, 0.2, 0.5])
def test_slant_shears_and_leaves_heights_alone(wild, slant):
    wild = set_all(wild, rotation=0, thickness=1.5)
    upright = strokes.draw(set_all(wild, slant=0))
    slanted = strokes.draw(set_all(wild, slant=slant))
    change = lean(slanted) - lean(upright)
    # Lines that slant lengthens get more ink, which bends the slope of a round digit.
    assert (change - slant).abs().max() < 0.1
    assert change.mean().item() == pytest.approx(slant, rel=0.1)
    ones = change[wild.label == 1]
    assert ones.mean().item() == pytest.approx(slant, rel=0.03)
    _, x0, y0, _, _, yy0 = moments(upright)
    _, x1, y1, _, _, yy1 = moments(slanted)
    assert (yy1 / yy0 - 1).abs().mean() < 0.04
    assert max((x1 - x0).abs().mean(), (y1 - y0).abs().mean()) < 0.1


def test_slant_shows_among_all_the_other_factors(many):
    pixels, factors = many
    for digit in range(10):
        chosen = factors.label == digit
        seen, cause = lean(pixels[chosen]), factors.slant[chosen].double()
        assert torch.corrcoef(torch.stack([seen, cause]))[0, 1] > 0.6, digit


@pytest.mark.parametrize("degrees", [-20.0, 12.0])
def test_rotation_turns_the_principal_axis_counterclockwise(wild, degrees):
    def axis(pixels):
        *_, xx, xy, yy = moments(pixels)
        elongated = torch.hypot(xx - yy, 2 * xy) > 0.4 * (xx + yy)
        return torch.rad2deg(torch.atan2(-2 * xy, xx - yy)) / 2, elongated

    still, elongated = axis(strokes.draw(set_all(wild, rotation=0)))
    turned, _ = axis(strokes.draw(set_all(wild, rotation=degrees)))
    change = (turned - still + 90) % 180 - 90  # an axis has no ends
    assert elongated.sum() > 100
    assert (change - degrees)[elongated].abs().max() < 2
    assert change[elongated].mean().item() == pytest.approx(degrees, abs=0.3)


@pytest.mark.parametrize("scale", [0.6, 1.0])  # nothing leaves the image
def test_scale_changes_the_extent_alone(wild, scale):
    wild = set_all(wild, shift_x=0, shift_y=0, thickness=1.2)
    _, x0, y0, xx0, xy0, yy0 = moments(strokes.draw(set_all(wild, scale=0.8)))
    _, x1, y1, xx1, xy1, yy1 = moments(strokes.draw(set_all(wild, scale=scale)))
    ratio = ((xx1 + yy1) / (xx0 + yy0)).sqrt()
    assert (ratio - scale / 0.8).abs().max() < 0.05
    assert max((x1 - x0).abs().max(), (y1 - y0).abs().max()) < 0.3
    assert (xy1 / (xx1 + yy1) - xy0 / (xx0 + yy0)).abs().max() < 0.03


def test_a_digit_of_scale_one_is_18_pixels_tall():
    tall = strokes.draw(plain(*range(10))).unflatten(1, (28, 28)).amax(2)  # (10, 28)
    heights = (tall > 0.5).sum(1).double()
    assert heights.min() >= 18
    assert heights.max() <= 18 + 2.5


WRITTEN = (
    """
........  ........  ...##...  ........  ........
..####..  ....#...  ..##.#..  .#####..  .....#..
.#...##.  ...##...  .#...##.  .#...#..  .#...#..
##....#.  ...##...  .....##.  ....##..  .#...#..
#.....##  ...##...  .....#..  ...##...  .#...#..
#......#  ...##...  ....##..  ..####..  .#..##..
##....##  ...##...  ...##...  .....#..  .#####..
.#....##  ...##...  ..##....  .....##.  .....#..
.##...#.  ...##...  .###....  .....#..  ....##..
..#####.  ...##...  .######.  .#####..  ....##..
....#...  ........  ........  ..##....  ........

........  ....##..  ........  ........  ........
..####..  ...##...  ........  ..####..  ........
..#.....  ..##....  .#####..  ..#..#..  ..###...
..#.....  ..#.....  #######.  ..#..#..  .##.##..
.#####..  ..#.##..  .....#..  ..####..  .#..##..
.....##.  .######.  ....##..  ...##...  .#####..
......#.  .##...#.  ....#...  ..#..#..  ..####..
.....##.  ..#...#.  ....#...  .##..##.  ....##..
.....#..  ..#####.  ...##...  .##..#..  ....##..
.#####..  ...##...  ...#....  ..####..  ....#...
...#....  ........  ...#....  ........  ....#...
""",
    """
........  ........  ..####..  ........  ........
...##...  ........  ..#..##.  .#####..  ....##..
..####..  ...##...  .....##.  ....##..  ...###..
..#..#..  ..###...  .....##.  ...##...  ..####..
..#..#..  ....#...  .....#..  ...##...  ..#.##..
..#..#..  ....#...  .....#..  ...###..  .##.##..
..#..#..  ....#...  .####...  .....#..  .######.
..#..#..  ....#...  ##.##...  .....#..  ..####..
..#..#..  ....#...  ########  .....#..  ....#...
..####..  ....#...  .##.....  .#..##..  ....#...
...##...  ....#...  ........  .###....  ........

........  ...##...  ........  ........  ........
...####.  ...#....  ........  ..#####.  ..###...
..#.....  ...#....  ######..  ..#..##.  .#####..
..#.....  ..##....  .....#..  ..#..#..  .#...#..
..##....  ..#.....  ....##..  ..####..  .#..##..
....##..  ..####..  ....#...  ...##...  .#####..
.....#..  ..##.##.  ..####..  ..####..  ...#.#..
.....#..  ..##.##.  ..###...  ..#..#..  .....#..
....##..  ...###..  ...#....  ..#..#..  .....#..
.####...  ........  ...#....  ..####..  .#..#...
........  ........  ...#....  ...##...  ..##....
""",
)  # by blocks of two pixels of the middle; a point of the pen 4 pixels off shows


@pytest.mark.parametrize("style", [0, 1])
def test_digits_look_like_digits(style):
    square = strokes.draw(plain(*range(10), style=style)).unflatten(1, (28, 28))
    blocks = avg_pool2d(square[:, None, 3:25, 6:22], 2)[:, 0] > 0.5  # (10, 11, 8)
    drawn = [["".join(".#"[ink] for ink in row) for row in digit] for digit in blocks]
    rows = [zip(*drawn[:5], strict=True), zip(*drawn[5:], strict=True)]
    written = ["\n".join("  ".join(row) for row in half) for half in rows]
    assert "\n\n".join(written) == WRITTEN[style].strip()


def test_styles_are_two_ways_of_writing_and_all_between():
    along = [strokes.draw(plain(*range(10), style=s)) for s in (0.0, 0.5, 1.0)]
    apart = [(a - b).abs().sum(1) for a, b in pairwise(along)]
    assert torch.stack(apart).min() > 6  # pixels' worth of ink
    # A barred seven has more ink on the left of its stem; a flagged one, at its top.
    seven = along[2][7].view(28, 28) - along[0][7].view(28, 28)
    assert seven[12:17, 6:12].sum() > 3
    bare, flagged = along[0][1].view(28, 28), along[2][1].view(28, 28)
    assert flagged[:12].sum() > bare[:12].sum() + 5


def test_jitter_alone_makes_each_hand_different(wild):
    calm = plain(*wild.label.tolist())
    same = strokes.draw(calm)
    assert same.unique(dim=0).shape[0] == 10
    shaken = strokes.draw(calm._replace(jitter=wild.jitter))
    assert shaken.unique(dim=0).shape[0] == 200
    assert (shaken - same).abs().sum(1).min() > 1  # pixels' worth of ink
    assert (shaken - same).abs().sum(1).mean() > 20


def test_jitter_moves_its_own_point_right_and_down():
    jitter = torch.zeros(3, 13, 2)
    jitter[1, 5, 0] = jitter[2, 5, 1] = 3.0  # the foot of the one's stem
    still, right, lower = strokes.draw(plain(1, 1, 1)._replace(jitter=jitter))
    assert lean(right[None]) < lean(still[None]) - 0.1
    assert moments(lower[None])[5] > 1.2 * moments(still[None])[5]


def test_what_leaves_the_image_leaves_it_dark():
    gone = strokes.draw(set_all(plain(*range(10)), shift_x=500))
    assert (gone == 0).all()
    drowned = strokes.draw(set_all(plain(*range(10)), thickness=500))
    assert (drowned == 1).all()


# --- what goes wrong ------------------------------------------------------------------


def broken(**changes):
    return plain(1, 2, 3)._replace(**changes)


WRONG = {
    "slant": (broken(slant=torch.zeros(2)), ["factors.slant", "(2,)", "(3,)"]),
    "jitter": (broken(jitter=torch.zeros(3, 12, 2)), ["jitter", "(3, 12, 2)"]),
    "label": (broken(label=torch.tensor([1, 10, 3])), ["label", "10", "9"]),
    "negative": (broken(label=torch.tensor([-1, 1, 3])), ["label", "-1", "9"]),
    "float": (broken(label=torch.tensor([1.0, 2.0, 3.0])), ["label", "3", "9"]),
    "nan": (broken(shift_x=torch.tensor([0.0, math.nan, 0.0])), ["factors.shift_x"]),
    "thickness": (broken(thickness=torch.tensor([2.0, 0.0, 1.0])), ["thickness"]),
    "scale": (broken(scale=torch.tensor([1.0, -1.0, 1.0])), ["factors.scale", "-1"]),
    "none": (plain(), ["factors.label", "0"]),
}


@pytest.fixture(params=["pt", "en"])
def language(request):
    words.use_language(request.param)
    return request.param


@pytest.mark.parametrize("case", WRONG)
def test_wrong_factors_get_one_clear_sentence(case, language):
    factors, parts = WRONG[case]
    with pytest.raises(ValueError, match=r"^[^\n]+\.$") as error:
        strokes.draw(factors)
    assert all(part in str(error.value) for part in parts)
    assert ("recebi" in str(error.value)) == (language == "pt")


@pytest.mark.parametrize("n", [0, -3, 2.5, True])
@pytest.mark.parametrize(
    "make",
    [lambda n: strokes.digits(n), lambda n: strokes.sample_factors(n, seed=0)],
    ids=["digits", "sample_factors"],
)
def test_fewer_than_one_image_is_refused(make, n, language):
    with pytest.raises(ValueError, match=r"^n: .*\.$") as error:
        make(n)
    assert str(n) in str(error.value)


def test_an_error_gives_the_threads_back():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ValueError, match="factors"):
            strokes.draw(plain())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
