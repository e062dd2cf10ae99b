"""Image diffusion and flow training, from 8x8 digits on a laptop to ImageNet on a pod.

    dfx run images:digits_smoke       every part on the 8x8 digits of scikit-learn, under a minute
    dfx run images:mnist              15 minutes of training on two cores, then its evaluation
    dfx run images:cifar10_small      one GPU, under 25 minutes
    dfx run images:cifar10_edm        EDM's net, loss and length on CIFAR-10, 8 GPUs, two days
    dfx run images:cifar10_sit        a SiT of 33 M parameters on CIFAR-10 pixels, one GPU, a day
    dfx run images:imagenet64_edm     EDM's ADM on ImageNet 64, a pod
    dfx run images:imagenet256_sit_b  SiT-B/2 on latents of ImageNet 256, a pod, a day
    dfx run images:imagenet256_sit_xl SiT-XL/2, a pod, weeks

`dfx run images` is `mnist` and `dfx run images:smoke` is `digits_smoke`: every study has these two
names. Data lie where --config.data.path or the environment variable DFX_DATA points. A run that was
stopped, by SIGTERM too, goes on with the same command, also on another number of devices and where
the same data lie elsewhere. Every setting can be changed: --config.recipe=sit,
--config.train.minutes=120, --config.mesh.fsdp=8.
"""

from typing import Any

from ml_collections import config_dict

from dfx.runs import checks

SIZES = (
    "smoke", "default", "digits_smoke", "mnist", "cifar10_small", "cifar10_edm", "cifar10_sit",
    "imagenet64_edm", "imagenet256_sit_b", "imagenet256_sit_xl",
)  # fmt: skip
#: The launcher and the tests of every study know these two names.
SAME = {"smoke": "digits_smoke", "default": "mnist"}

#: What an evaluation may hold; see `experiments.images.evaluation`.
PARTS = ("samples", "loss", "judge", "neighbours", "bits")


def get_config(size: str = "default") -> config_dict.ConfigDict:
    """Return the config of one size."""
    changes = dict(_CHANGES[SAME.get(size, size)])
    config = config_dict.create(net=changes.pop("net"), **_default())
    config.update(changes)
    return config


def _default() -> dict[str, Any]:
    return dict(
        seed=0,
        recipe="edm",
        # kind: "memory" for a named set of `dfx.data` that fits on every device, or how records lie
        # on disk. Pixels become uniform in their cell (dequantise). latents: rows are means and
        # deviations of an encoder. size, channels: of pictures in a folder.
        data=dict(
            name="mnist", path="", kind="memory", test_split="test", num_classes=10, flip=False,
            dequantise=True, latents=False, latent_scale=0.18215, size=64, channels=3,
        ),
        # dropout: share of the labels that become the null class.
        labels=dict(use=False, dropout=0.1),
        # Devices: all of them; -1 for those that are left. The batch is split over both, parameters
        # over fsdp.
        mesh=dict(data=-1, fsdp=1),
        # Ends at num_steps, or after so many minutes of training if not 0. warmup is in steps,
        # chunk in steps between two looks of the host.
        train=dict(
            num_steps=100_000, minutes=0.0, batch_size=128, slices=1, chunk=50, save_every=500,
            learning_rate=1e-3, warmup=100, schedule="constant", clip=1.0, nonfinite="stop",
        ),
        # Averages: half-lives in images, widths of power profiles as shares of the run. Snapshots
        # of the latter every so many steps (0: none), from which other widths are made at the end.
        ema=dict(half_lives=(500_000.0,), sigma_rels=(0.05, 0.10), snapshot_every=0, posthoc=()),
        # solver: "" for the recipe's own, with num_steps of it (0: as many as the paper). ema: the
        # average that is judged.
        evaluation=dict(
            every=1000, parts=PARTS, samples=1024, batch=256, shown=64, solver="", grid="",
            num_steps=0, ema="0.1", guidance=1.0, levels=12, held_out=1024, bits=16,
            bits_tolerance=1e-3,
        ),
        # The classifier whose features and classes judge samples.
        judge=dict(num_steps=2000, width=16, num_features=128, sure=0.9),
        # Files for the FID, which is left out without them: see `dfx.nets.inception` for the arrays
        # of the weights. Relative names lie where the data lie.
        inception=dict(weights="", reference=""),
    )  # fmt: skip


_CIFAR = dict(name="cifar10", flip=True)
_SIT: dict[str, Any] = dict(
    recipe="sit",
    data=dict(
        name="imagenet256", kind="npy", test_split="val", num_classes=1000, latents=True,
        dequantise=False,
    ),
    labels=dict(use=True),
    train=dict(
        batch_size=256, learning_rate=1e-4, warmup=0, clip=0.0, chunk=100, save_every=5000,
    ),
    ema=dict(half_lives=(1_774_000.0,), snapshot_every=25_000),
    evaluation=dict(
        every=50_000, parts=("samples", "loss"), samples=256, batch=256, ema="half_1774000",
        guidance=1.5, held_out=2048,
    ),
)  # fmt: skip

_CHANGES: dict[str, dict[str, Any]] = {
    "digits_smoke": dict(
        data=dict(name="digits"),
        net=dict(name="dit", patch=2, width=32, depth=1, heads=2),
        train=dict(num_steps=60, batch_size=64, chunk=10, save_every=20, warmup=10),
        ema=dict(snapshot_every=20, posthoc=(0.075, 0.15)),
        evaluation=dict(
            every=30, samples=64, batch=64, shown=16, num_steps=6, levels=5, held_out=128, bits=4,
            bits_tolerance=1e-2,
        ),
        judge=dict(num_steps=200, width=8, num_features=16),
    ),
    # Chosen by Frechet distance after two CPU minutes, where EDM's levels, which are low, leave the
    # shape of a digit to be learned later: 80 (EDM 98; EDM with twice the width 121, patch 4 and
    # four times the width 100 after three, a transformer of patch 4 and width 128 137 after three).
    "mnist": dict(
        recipe="sit",
        net=dict(name="unet", base=32, multipliers=(1, 2), blocks=1, patch=2),
        train=dict(minutes=15.0, batch_size=64, chunk=5, save_every=200),
        ema=dict(snapshot_every=500, posthoc=(0.075, 0.15)),
        evaluation=dict(every=1000, num_steps=18),
    ),
    "cifar10_small": dict(
        data=_CIFAR,
        net=dict(name="unet", base=128, multipliers=(1, 2, 2), blocks=2, dtype="bfloat16"),
        train=dict(minutes=18.0, batch_size=512, learning_rate=1e-3, warmup=500, chunk=100),
        ema=dict(snapshot_every=2000, posthoc=(0.075, 0.15)),
        evaluation=dict(every=5000, samples=10_000, batch=1000, held_out=10_000),
        judge=dict(num_steps=5000, width=64, num_features=256),
    ),
    "cifar10_edm": dict(
        data=_CIFAR,
        net=dict(name="edm_ddpmpp", dtype="bfloat16"),
        train=dict(
            num_steps=390_625, batch_size=512, learning_rate=1e-3, warmup=19_531, clip=0.0,
            chunk=100, save_every=2000,
        ),
        ema=dict(snapshot_every=5000),
        evaluation=dict(
            every=20_000, samples=50_000, batch=1000, held_out=10_000, ema="half_500000",
        ),
        judge=dict(num_steps=5000, width=64, num_features=256),
    ),
    "cifar10_sit": dict(
        recipe="sit",
        data=_CIFAR,
        labels=dict(use=True),
        net=dict(name="dit_s", patch=2, dtype="bfloat16"),
        train=dict(
            num_steps=400_000, batch_size=256, learning_rate=1e-4, warmup=0, chunk=100,
            save_every=2000,
        ),
        ema=dict(half_lives=(1_774_000.0,), snapshot_every=5000),
        evaluation=dict(
            every=20_000, samples=10_000, batch=1000, held_out=10_000, ema="half_1774000",
        ),
        judge=dict(num_steps=5000, width=64, num_features=256),
    ),
    "imagenet64_edm": dict(
        data=dict(name="imagenet64", kind="folder", test_split="val", num_classes=1000, flip=True),
        labels=dict(use=True, dropout=0.0),
        net=dict(name="edm_adm", dtype="bfloat16", remat="dots"),
        train=dict(
            num_steps=610_352, batch_size=4096, learning_rate=1e-4, warmup=2441, clip=0.0,
            chunk=100, save_every=1000,
        ),
        ema=dict(half_lives=(50e6,), snapshot_every=5000),
        evaluation=dict(
            every=10_000, samples=10_240, batch=1024, held_out=4096, ema="half_50000000",
            num_steps=32,
        ),
        judge=dict(num_steps=20_000, width=64, num_features=512),
    ),
    "imagenet256_sit_b": {
        **_SIT,
        "net": dict(name="dit_b", patch=2, dtype="bfloat16"),
        "train": {**_SIT["train"], "num_steps": 400_000},
    },
    "imagenet256_sit_xl": {
        **_SIT,
        "net": dict(name="dit_xl", patch=2, dtype="bfloat16", remat="dots"),
        "mesh": dict(data=-1, fsdp=8),
        "train": {**_SIT["train"], "num_steps": 7_000_000},
    },
}  # fmt: skip

_CHOICES = {
    "train.schedule": ("constant", "cosine"),
    "train.nonfinite": ("stop", "skip"),
    "evaluation.parts": PARTS,
}
_MAYBE_ZERO = (
    "labels.dropout", "train.minutes", "train.warmup", "train.clip", "ema.snapshot_every",
    "evaluation.num_steps",
)  # fmt: skip
_MAYBE_EMPTY = ("evaluation.parts", "ema.half_lives", "ema.sigma_rels", "ema.posthoc")
_WIDTHS = (0.001, 0.2886)  # no profile is wider than the plain mean's, 12^(-1/2)
_STEPS = 2**31 - 1  # what a counter of steps on a device holds
_RANGES = {
    "labels.dropout": (0.0, 1.0), "judge.sure": (0.0, 1.0), "data.channels": (1, 4),
    "data.size": (1, 65_536), "ema.sigma_rels": _WIDTHS, "ema.posthoc": _WIDTHS,
    "ema.half_lives": (1.0, 1e12), "ema.snapshot_every": (0, _STEPS),
    "train.num_steps": (1, _STEPS),
    "train.warmup": (0, _STEPS), "judge.num_steps": (1, _STEPS), "judge.width": (1, 65_536),
    "judge.num_features": (1, 65_536),
    # Whole batches, and tables of a row a step, are made up while settings are checked.
    "train.batch_size": (1, 2**24), "evaluation.batch": (1, 2**24),
    "evaluation.num_steps": (0, 100_000), "evaluation.levels": (1, 100_000),
}  # fmt: skip
#: Checked by what uses them, or switches.
_OTHERS = (
    "net", "mesh", "data.flip", "data.dequantise", "data.latents", "labels.use", "inception",
)  # fmt: skip


def validate(config: config_dict.ConfigDict) -> None:
    """Check ranges and choices, that recipe and net exist, that the data are there and that the
    devices share the batch.

    Raises:
      PersonError: the first setting that cannot be, in one line.
    """
    checks.choices(config, _CHOICES, _MAYBE_EMPTY)
    checks.signs(config, _MAYBE_ZERO, _OTHERS, _MAYBE_EMPTY)
    checks.ranges(config, _RANGES)
    averages = config.ema.half_lives + config.ema.sigma_rels
    checks.require(
        bool(averages), "config.ema.half_lives", (), "at least one here or in ema.sigma_rels"
    )
    settings = config.train
    allowed = f"at most train.num_steps = {settings.num_steps}"
    warm = settings.warmup <= settings.num_steps
    checks.require(warm, "config.train.warmup", settings.warmup, allowed)
    allowed = f"a divisor of train.batch_size = {settings.batch_size}"
    divides = settings.batch_size % settings.slices == 0
    checks.require(divides, "config.train.slices", settings.slices, allowed)
    _check_names(config)
    from experiments.images import check  # here: it imports JAX, which the others do without

    check.check(config)


def _check_names(config) -> None:
    from dfx import data, nets, recipes, solvers  # here: they import JAX

    kinds = ("memory", *data.RECORDS)
    checks.choices(config, {"recipe": recipes.REGISTRY, "net.name": nets.REGISTRY,
                            "data.kind": kinds})  # fmt: skip
    if config.data.kind == "memory":
        splits = ("train", "test")
        checks.choices(config, {"data.name": data.REGISTRY, "data.test_split": splits})
    if config.evaluation.solver:
        checks.one_of("config.evaluation.solver", config.evaluation.solver, solvers.REGISTRY)


def fingerprint(config: config_dict.ConfigDict) -> str:
    """Return what the run reads from disk, "" for nothing."""
    from dfx.runs.fingerprint import of_files, of_records, of_sets
    from experiments.images import data, inception

    if config.data.kind == data.MEMORY:
        pictures = of_sets((config.data.name,), config.data.path)
    else:
        splits = (data.open_split(config, split) for split in ("train", config.data.test_split))
        pictures = of_records(config.data.name, *splits)
    return ", ".join(filter(None, (pictures, of_files("inception", *inception.paths(config)))))
