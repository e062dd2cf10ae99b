"""The steps of the pod configs, lowered at full size for 256 devices that are not there."""

import functools
import math
import re

import jax
import pytest

from configs.images import get_config
from dfx.train.lower import bytes_per_device
from dfx.train.mesh import MIN_SIZE
from experiments import lower

DEVICES = 256
SLOW = pytest.mark.slow  # up to 12 s each: the U-Net's program has 60,000 lines


@functools.cache
def pod(size, fsdp):
    """Return the config and its step on 256 devices; `fsdp` replaces that of the config."""
    config = get_config(size)
    if fsdp is not None:
        config.mesh.fsdp = fsdp
    return config, lower.lower(config, DEVICES)


def holders(leaf):
    """Return into how many parts a leaf is split."""
    return leaf.size // math.prod(leaf.sharding.shard_shape(leaf.shape))


ALL = [
    pytest.param("imagenet256_sit_b", 8, id="b-8"),
    pytest.param("imagenet256_sit_b", None, id="b", marks=SLOW),
    pytest.param("imagenet256_sit_xl", None, id="xl", marks=SLOW),
    pytest.param("imagenet64_edm", 8, id="edm-8", marks=SLOW),
]


@pytest.mark.parametrize(("size", "fsdp"), ALL)
def test_no_large_array_is_whole_on_a_device_under_fsdp(size, fsdp):
    config, step = pod(size, fsdp)
    ways = config.mesh.fsdp
    assert step.mesh == {"data": DEVICES // ways, "fsdp": ways}
    large = [leaf for leaf in jax.tree.leaves(step.state) if leaf.size >= MIN_SIZE]
    assert len(large) > 20 and {holders(leaf) for leaf in large} == {ways}
    moments = step.state.opt_state.inner
    for tree in jax.tree.leaves(moments, is_leaf=lambda t: isinstance(t, dict)):
        if isinstance(tree, dict):  # the optimizer's moments lie where their parameters lie
            assert jax.tree.all(
                jax.tree.map(lambda a, b: a.sharding == b.sharding, tree, step.state.params)
            )


@pytest.mark.parametrize(("size", "fsdp"), ALL)
def test_the_program_splits_its_arguments_as_it_should(size, fsdp):
    """As the program itself says: shardings of the arguments of its main function."""
    config, step = pod(size, fsdp)
    text = step.lowered.as_text()
    assert f'sdy.mesh @mesh = <["data"={step.mesh["data"]}, "fsdp"={step.mesh["fsdp"]}]>' in text
    (main,) = (line for line in text.splitlines() if "@main(" in line)
    arguments = main.partition(") -> ")[0].split("%arg")[1:]
    batch = [a for a in arguments if re.search(r'\[\{"data", "fsdp"\}', a)]
    split = [a for a in arguments if '{"fsdp"}' in a]
    leaves = jax.tree.leaves(step.state)
    ways = config.mesh.fsdp
    assert len(arguments) == len(leaves) + 2
    assert len(batch) == 2  # pictures and labels
    assert len(split) == (sum(holders(leaf) > 1 for leaf in leaves) if ways > 1 else 0)
    assert all(f"tensor<{config.train.batch_size}x" in a for a in batch)


@pytest.mark.parametrize(("size", "fsdp"), ALL)
def test_a_device_holds_its_share_of_the_bytes(size, fsdp):
    """Parameters, two moments and three averages of each, float32; what is not split is small."""
    config, step = pod(size, fsdp)
    number = sum(leaf.size for leaf in jax.tree.leaves(step.state.params))
    copies = 3 + len(config.ema.half_lives) + len(config.ema.sigma_rels)
    held = bytes_per_device(step.state)
    assert 1.0 <= held / (4 * copies * number / config.mesh.fsdp) < 1.07
    assert held < 8 * lower.GIB  # of the 16 that a chip of the smallest kind has


@pytest.mark.parametrize(
    ("size", "fsdp", "parameters", "flop"),
    [
        # Peebles and Xie (2023), table 4: 23.01 and 118.64 G products for one picture's forward
        # pass, at 256 pictures; the backward pass takes two more.
        ("imagenet256_sit_b", 8, 130e6, 6 * 256 * 23.01e9),
        pytest.param("imagenet256_sit_xl", None, 675e6, 6 * 256 * 118.64e9, marks=SLOW),
        # Karras et al. (2022), table 7: 296 M; Dhariwal and Nichol (2021): 103.9 G.
        pytest.param("imagenet64_edm", 8, 296e6, 6 * 4096 * 103.9e9, marks=SLOW),
    ],
)
def test_sizes_are_those_of_the_papers(size, fsdp, parameters, flop):
    _, step = pod(size, fsdp)
    number = sum(leaf.size for leaf in jax.tree.leaves(step.state.params))
    assert number == pytest.approx(parameters, rel=0.01)
    assert step.flop == pytest.approx(flop, rel=0.06)  # papers leave small products out


def test_the_command_prints_what_a_step_takes(capsys):
    assert lower.main(["images:imagenet256_sit_b", "--devices=64", "--config.mesh.fsdp=4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "64 devices (data 16 x fsdp 4), batch 256: 4 on each"
    assert lines[1].startswith("130,") and "TFLOP a step" in lines[1]
    assert lines[2].startswith("GiB on each device: 0.7")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("images:imagenet256_sit_b --devices=100", "allowed are multiples of 100"),
        ("images:imagenet256_sit_xl --devices=12", "that multiply to the devices"),
        ("images:imagenet256_sit_b --devices=none", "--devices=none: allowed are whole numbers"),
        ("images:imagenet256_sit_b --platform=gpu", "allowed: cpu, cuda, tpu"),
        ("images:mnist --devices=8 --config.data.name=arrays", "is not known without its files"),
        ("images:minst", "did you mean 'mnist'?"),
        ("sheep", "unknown study 'sheep'"),
    ],
)
def test_a_mistake_is_one_line(words, line, capsys):
    assert lower.main(words.split()) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and line in said[0]
