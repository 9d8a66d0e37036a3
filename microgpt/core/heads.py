"""How the channels of attention split into heads."""

from dataclasses import dataclass

from microgpt.common.errors import ShapeError


@dataclass(frozen=True)
class Heads:
    """H query heads of hs channels; neighbouring ones share one of H_kv heads of keys and values.

    A row of packed projections holds H query heads, then H_kv key heads, then H_kv value heads.

    Raises:  ShapeError: H_kv does not divide H; or hs is odd, so that a channel has no rotary partner.
    Source:  Ainslie et al. 2023 (arXiv 2305.13245).
    """

    H: int
    H_kv: int
    hs: int

    def __post_init__(self) -> None:
        if self.H < 1 or self.H_kv < 1 or self.H % self.H_kv or self.hs < 2 or self.hs % 2:
            raise ShapeError(
                f"{self.H} query heads, {self.H_kv} key and value heads of {self.hs} channels; expected a "
                "number of query heads that the other divides, and an even number of channels"
            )

    @property
    def C(self) -> int:
        """Channels of all queries, and of the result."""
        return self.H * self.hs

    @property
    def C_kv(self) -> int:
        """Channels of all keys, and of all values."""
        return self.H_kv * self.hs

    @property
    def width(self) -> int:
        """Channels of a row of packed projections."""
        return self.C + 2 * self.C_kv
