"""How the channels of attention split into heads."""

from dataclasses import dataclass

from microgpt.common.errors import ShapeError


@dataclass(frozen=True)
class Heads:
    """H query heads of hs channels; neighbouring ones share one of H_kv heads of keys and values.

    A row of packed projections holds H query heads, then H_kv key heads, then H_kv value heads.

    A query sees the `window` positions of its document up to its own, all of them if 0; and, with a `stride`,
    every stride-th position of the document before, its first one among them.

    Raises:  ShapeError: H_kv does not divide H; hs is odd, so that a channel has no rotary partner; a stride
             without a window.
    Source:  Ainslie et al. 2023 (arXiv 2305.13245); windows: Beltagy et al. 2020 (arXiv 2004.05150);
             strides: Child et al. 2019 (arXiv 1904.10509).
    """

    H: int
    H_kv: int
    hs: int
    window: int = 0
    stride: int = 0

    def __post_init__(self) -> None:
        if min(self.window, self.stride) < 0 or (self.stride and not self.window):
            raise ShapeError(
                f"window {self.window}, stride {self.stride}; expected 0 or more, and a window with a stride"
            )
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

    def pairs(self, T: int) -> int:
        """Pairs of a query and a key that a head sees in one document of T positions."""
        near = min(self.window or T, T)
        seen = near * (near + 1) // 2 + (T - near) * near
        if not self.stride:
            return seen
        strides, rest = divmod(T - near, self.stride)
        return seen + self.stride * strides * (strides + 1) // 2 + rest * (strides + 1)
