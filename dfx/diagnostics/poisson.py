"""The split s = grad phi + r of `decomposition.py` on a grid, in one or two dimensions.

Finite volumes: phi lives on the cells, the fluxes p grad phi and p s on the faces between them, and
nothing flows through the outer faces, the natural condition of the projection. With D the
differences across faces and P the density on them, phi minimises sum P (s - D phi)^2:

    D^T P D phi = D^T P s.

So E[grad phi . r] = 0 and the Pythagorean theorem hold to rounding on every grid; phi and its
gradient are off by the square of the cell size. On the host, in float64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dfx.diagnostics.decomposition import Parts
from dfx.errors import PersonError


class GridSplit(NamedTuple):
    """The split on a grid; arrays have one axis per dimension.

    Attributes:
      centres: of the cells, one array per dimension.
      potential: phi on the cells, with mean 0 under p.
      density: p on the cells, with sum 1.
      gradient: for each dimension, that component of grad phi on the faces across it: one less in
        number along that axis.
      remainder: the components of r on the same faces.
      parts: squared norms, means over p; of the components on the faces, added up.
    """

    centres: tuple
    potential: Any
    density: Any
    gradient: tuple
    remainder: tuple
    parts: Parts


def split_on_grid(field: Callable, log_density: Callable, edges) -> GridSplit:
    """Return the split of a field in L^2(p), p restricted to a box of one or two dimensions.

    In one dimension r = 0. Cells where p is smaller than 1e-300 of its largest value count as that:
    there phi is of no consequence. Costs one evaluation of the field on all faces per dimension and
    one sparse factorisation, well below a second for 100 by 100 cells.

    Args:
      field: (n, d) -> (n, d), float64 in and out.
      log_density: (n, d) -> (n,), log p up to a constant.
      edges: for each of the d dimensions, the rising edges of the cells, at least 3 of them. The
        box should hold nearly all of p.

    Raises:
      PersonError: more than two dimensions, edges that do not rise.
    """
    edges = [np.asarray(e, np.float64) for e in edges]
    if len(edges) not in (1, 2):
        raise PersonError(f"{len(edges)} dimensions: the grid solver knows 1 and 2")
    if any(e.ndim != 1 or len(e) < 3 or (np.diff(e) <= 0).any() for e in edges):
        raise PersonError("edges of cells must rise, with at least 3 in each dimension")
    centres = [0.5 * (e[1:] + e[:-1]) for e in edges]
    log_p = _on(log_density, centres)
    top = log_p.max()
    mass = _density(log_p, top) * _product([np.diff(e) for e in edges])
    faces = [_faces(field, log_density, edges, centres, axis, top) for axis in range(len(edges))]
    potential = _solve(faces, mass)
    potential -= np.sum(potential * mass) / mass.sum()
    gradient = tuple(np.diff(potential, axis=a) / f.distance for a, f in enumerate(faces))
    remainder = tuple(f.value - g for f, g in zip(faces, gradient))
    parts = _parts(faces, gradient, remainder, mass.sum())
    return GridSplit(tuple(centres), potential, mass / mass.sum(), gradient, remainder, parts)


class _Faces(NamedTuple):
    """The inner faces across one axis: normal component of s, mass around the face, distance."""

    value: Any
    mass: Any
    distance: Any


def _faces(field, log_density, edges, centres, axis, top) -> _Faces:
    places = [edges[k][1:-1] if k == axis else c for k, c in enumerate(centres)]
    widths = [np.diff(centres[k] if k == axis else e) for k, e in enumerate(edges)]
    mass = _density(_on(log_density, places), top) * _product(widths)
    value = _on(lambda x: np.asarray(field(x))[:, axis], places)
    shape = [-1 if k == axis else 1 for k in range(len(edges))]
    return _Faces(value, mass, widths[axis].reshape(shape))


def _solve(faces, mass):
    """phi on the cells; that of the heaviest cell is 0."""
    import scipy.sparse as sparse
    from scipy.sparse.linalg import spsolve

    numbers = np.arange(mass.size).reshape(mass.shape)
    rows, weights, values, distances = [], [], [], []
    for axis, face in enumerate(faces):
        low, high = np.delete(numbers, -1, axis), np.delete(numbers, 0, axis)
        rows.append(np.stack([low.ravel(), high.ravel()], 1))
        weights.append(face.mass.ravel())
        values.append(face.value.ravel())
        distances.append(np.broadcast_to(face.distance, low.shape).ravel())
    ends, p, s, h = (np.concatenate(a) for a in (rows, weights, values, distances))
    number = np.arange(len(ends))
    difference = sparse.csr_array(
        (np.concatenate([-1 / h, 1 / h]), (np.tile(number, 2), ends.T.ravel())),
        shape=(len(ends), mass.size),
    )
    matrix = difference.T @ sparse.diags_array(p) @ difference
    right = difference.T @ (p * s)
    keep = np.delete(np.arange(mass.size), int(mass.argmax()))
    # Scaled to a unit diagonal: p spans hundreds of orders of magnitude.
    scale = 1 / np.sqrt(matrix.diagonal()[keep])
    scaled = sparse.diags_array(scale) @ matrix.tocsr()[keep][:, keep] @ sparse.diags_array(scale)
    phi = np.zeros(mass.size)
    phi[keep] = scale * spsolve(scaled.tocsc(), scale * right[keep])
    return phi.reshape(mass.shape)


def _parts(faces, gradient, remainder, mass) -> Parts:
    def mean(a, b):
        return float(sum(np.sum(f.mass * x * y) for f, x, y in zip(faces, a, b)) / mass)

    values = [f.value for f in faces]
    pairs = (values, values), (gradient, gradient), (remainder, remainder), (gradient, remainder)
    return Parts(*(mean(*pair) for pair in pairs))


def _on(function, places):
    """The function on the product grid of the places, one axis per dimension."""
    mesh = np.meshgrid(*places, indexing="ij")
    points = np.stack([m.ravel() for m in mesh], axis=1)
    return np.asarray(function(points), np.float64).reshape(mesh[0].shape)


def _product(widths):
    """The volumes of the cells with these widths along each axis."""
    return functools.reduce(np.multiply.outer, widths)


def _density(log_p, top):
    return np.exp(np.maximum(log_p - top, np.log(1e-300)))
