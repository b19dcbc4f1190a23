"""Random draws that are the same on every device: counters in, normal numbers out.

The noise of a routing warm-up is draw number n of a stream (seed, purpose, index), so
it does not depend on thread, island or chip. No generator of a device is used: even two
of one make give other numbers once a tensor is large. The streams are those of the Go
package ``rng``: Philox4x32-10 (Salmon and others, SC 2011, section 3.3), and the
quantile of the normal distribution by PPND16 (Wichura, algorithm AS 241, 1988).
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any  # of numpy, whose own name for it takes arguments that depend on the release

ROUTING = 4  # purpose: stochastic routing; the index is the sample

_WORDS = 2  # 32-bit words of one normal draw
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox(counter: tuple[Array, ...], key: tuple[int, int]) -> tuple[Array, ...]:
    """Four words of 32 bits (in uint64 arrays) for each counter of four words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (product1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            product1 & _LOW,
            (product0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            product0 & _LOW,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def normals(seed: int, purpose: int, index: int, first: int, count: int) -> Array:
    """Draws first to first + count of the stream (seed, purpose, index), float64 [count]."""
    begin, end = first * _WORDS, (first + count) * _WORDS
    block = np.arange(begin // 4, (end + 3) // 4, dtype=np.uint64)
    counter = (
        block & _LOW,
        np.uint64(purpose << 16) | (block >> _SHIFT & np.uint64(0xFFFF)),
        np.full_like(block, index & 0xFFFFFFFF),
        np.full_like(block, index >> 32),
    )
    words = np.stack(philox(counter, (seed & 0xFFFFFFFF, seed >> 32)), 1).reshape(-1)
    words = words[begin % 4 :][: end - begin].reshape(count, _WORDS)
    wide = words[:, 0] | words[:, 1] << _SHIFT
    # Centres of 2^52 equal cells: never 0 or 1, symmetric about 1/2.
    return quantile(((wide >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52)


def quantile(p: Array) -> Array:
    """The inverse of the standard normal distribution for 0 < p < 1."""
    q = p - 0.5
    centre = q * _ratio(_CENTRE, 0.180625 - q * q)
    r = np.sqrt(-np.log(np.minimum(p, 1 - p)))
    tail = np.where(r <= 5, _ratio(_SHOULDER, r - 1.6), _ratio(_TAIL, r - 5))
    return np.where(np.abs(q) <= 0.425, centre, np.copysign(tail, q))


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    """A quotient of two polynomials, highest power first."""
    above, below = coefficients
    return np.polyval(above, x) / np.polyval(below, x)


_CENTRE = (
    (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
)
_SHOULDER = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.76949722146069140550e0,
        4.63033784615654529590e0,
        1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940e0,
        2.05319162663775882187e0,
        1.0,
    ),
)
_TAIL = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        2.96560571828504891230e-1,
        1.78482653991729133580e0,
        5.46378491116411436990e0,
        6.65790464350110377720e0,
    ),
    (
        2.04426310338993978564e-15,
        1.42151175831644588870e-7,
        1.84631831751005468180e-5,
        7.86869131145613259100e-4,
        1.48753612908506148525e-2,
        1.36929880922735805310e-1,
        5.99832206555887937690e-1,
        1.0,
    ),
)
