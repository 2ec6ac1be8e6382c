"""Configurations drawn before anything runs: random, or spread evenly by a Sobol sequence.

A draw depends on the seed, the setting's place in the space and the configuration's number alone.
So all methods get the same values of what they share, and more configurations are added to those
there are.
"""

import zlib

import numpy as np
import scipy  # loads its `stats` when asked

from rllib_lpdm.schema.search_section import SearchSection


def drawn(search: SearchSection) -> list[dict[str, object]]:
    """The values of all searched settings by configuration; number 0 has none of its own."""
    count, names = search.configurations - 1, list(search.space)
    if search.proposer == "random":
        units = np.stack(
            [
                np.random.default_rng([search.seed, zlib.crc32(name.encode())]).random(count)
                for name in names
            ],
            axis=1,
        )
    else:
        rng = np.random.default_rng(search.seed)
        sampler = scipy.stats.qmc.Sobol(len(names), scramble=True, rng=rng)
        # whole powers of two are what is spread evenly
        units = sampler.random_base2(max(count - 1, 1).bit_length())[:count]
    dimensions = list(search.space.values())
    return [
        {},
        *(
            {name: d.at(unit) for name, d, unit in zip(names, dimensions, row, strict=True)}
            for row in units.tolist()
        ),
    ]
