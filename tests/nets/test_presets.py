"""The nets of the literature: their sizes, and what holds for each at reduced width."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import nets, recipes

#: Millions of parameters as the papers state them: EDM in text and tables, DiT in table 1.
COUNTS = {
    "edm_ddpmpp": (55.7, (32, 32, 3), 0, 1),
    "edm_adm": (295.9, (64, 64, 3), 1000, 1),
    "dit_s": (33, (32, 32, 4), 1000, 0),
    "dit_b": (130, (32, 32, 4), 1000, 0),
    "dit_l": (458, (32, 32, 4), 1000, 0),
    "dit_xl": (675, (32, 32, 4), 1000, 0),
}
SHAPE, NUM = (8, 8, 2), 3
_DIT = dict(width=16, depth=2, heads=2)
REDUCED = {
    "edm_ddpmpp": dict(base=8, multipliers=(1, 2), blocks=1, attention_sizes=(4,)),
    "edm_ncsnpp": dict(base=8, multipliers=(1, 2), blocks=1, attention_sizes=(4,)),
    "edm_adm": dict(base=8, multipliers=(1, 2), blocks=1, attention_sizes=(8, 4), head_width=4),
    "dit_s": _DIT,
    "dit_b": _DIT,
    "dit_l": _DIT,
    "dit_xl": _DIT,
}
PRESETS = [name for name, make in nets.REGISTRY.items() if isinstance(make, functools.partial)]
#: The others differ from these in numbers alone.
KINDS = ("edm_ddpmpp", "edm_ncsnpp", "edm_adm", "dit_s")
#: A fast and a slow half: what a net compiles is most of a test.
HALVES = [
    "edm_adm",
    "dit_s",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("edm_ddpmpp", "edm_ncsnpp")),
]


def reduced(name, **options):
    return nets.make(name, SHAPE, **REDUCED[name], num_classes=3, **options)


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_as_many_as_the_paper_says(name):
    millions, shape, num_classes, digits = COUNTS[name]
    net = nets.make(name, shape, num_classes=num_classes)
    params = jax.eval_shape(net.init, jax.random.key(0))
    assert round(nets.num_params(params) / 1e6, digits) == millions


def test_every_preset_is_among_those_tested():
    assert set(PRESETS) == set(REDUCED)
    settings = {name: reduced(name) for name in PRESETS}
    assert len(set(settings.values())) == len(KINDS)


def any_params(net):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    return jax.tree.map(lambda a: np.float32(0.2 * rng.standard_normal(a.shape)), shapes)


@functools.cache
def example(name):
    """Compiled once for a kind: x, times and classes, and outputs of three settings of them."""
    net, short = reduced(name), reduced(name, dtype="bfloat16")
    params, rng = any_params(net), np.random.default_rng(1)
    x = np.float32(rng.standard_normal((NUM, *SHAPE)))
    t, cond = np.float32([0.1, 0.5, 2.0]), np.array([0, 1, 2])
    both = jax.jit(lambda *inputs: (net.apply(*inputs), short.apply(*inputs)))
    return both, params, x, t, cond


@pytest.mark.parametrize("name", KINDS)
def test_neighbouring_noise_levels_are_told_as_neighbours(name):
    """What a net knows of sigma (1 + h) differs from what it knows of sigma by a share of h."""
    net, recipe = reduced(name), recipes.make("edm")
    t = jnp.asarray(recipe.told(recipe.schedule.at(np.outer([0.01, 1.0, 30.0], [1, 1.001, 2]))))
    params, x = any_params(net), jnp.zeros((t.size, *SHAPE))
    # Of all that the net computes this is compiled alone.
    known = jax.jit(lambda t: net.features(params, x, t)[1]["time"])(t.ravel())
    here, near, far = np.moveaxis(np.asarray(known).reshape(*t.shape, -1), 1, 0)
    near, far = (np.linalg.norm(there - here, axis=-1) for there in (near, far))
    # Told are 0.09 of a step and 65 steps: angles of 0.09 and of all sizes, features 1.4 apart.
    assert np.all(near > 0) and np.all(near < 0.07 * far)


@pytest.mark.parametrize("name", HALVES)
def test_a_picture_depends_on_its_own_class_and_on_no_other_picture(name):
    both, params, x, t, cond = example(name)
    out, _ = both(params, x, t, cond)
    assert out.shape == x.shape and out.dtype == jnp.float32
    other = x.copy()
    other[1] += 1
    moved, _ = both(params, other, t, np.array([0, 1, 3]))
    # Samples of one batch may be summed in another order: float32 rounding.
    np.testing.assert_allclose(moved[0], out[0], rtol=1e-4, atol=1e-4)
    assert np.abs(moved[1] - out[1]).max() > 1e-2
    assert np.abs(moved[2] - out[2]).max() > 1e-3


@pytest.mark.parametrize("name", HALVES)
def test_bfloat16_computes_the_same_function_to_its_rounding(name):
    both, params, x, t, cond = example(name)
    out, short = both(params, x, t, cond)
    assert short.dtype == jnp.float32
    error = np.sqrt(np.mean((short - out) ** 2) / np.mean(np.square(out)))
    # 2^-9 relative for each of some tens of roundings in a row, added as random ones.
    assert 1e-4 < error < 3e-2


@pytest.mark.parametrize("name", HALVES)
def test_it_starts_as_the_zero_function(name):
    both, _, x, t, cond = example(name)
    params = reduced(name).init(jax.random.key(0))
    for out in both(params, x, t, cond):
        np.testing.assert_array_equal(out, 0)
