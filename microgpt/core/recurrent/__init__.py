"""The operations of recurrent layers, forward and backward; conventions as in `ops`.

Rows are (B, T, C).  Each takes `starts` (B, T) int32, where the document of each row begins (None: at 0):
nothing is remembered across the begin of one.  What is remembered at position 0 comes in as the last argument
(None: nothing), and has no gradient; what is remembered behind the last position is returned where it is more
than rows of the input.
"""

from .before import conv_silu_backward, conv_silu_forward, shift_mix_backward, shift_mix_forward
from .mamba2 import gated_rmsnorm_backward, gated_rmsnorm_forward, ssd_backward, ssd_forward
from .rwkv import (
    gate_backward,
    gate_forward,
    rwkv7_inputs_backward,
    rwkv7_inputs_forward,
    rwkv_output_backward,
    rwkv_output_forward,
    wkv6_backward,
    wkv6_forward,
    wkv7_backward,
    wkv7_forward,
)

__all__ = [
    "conv_silu_backward",
    "conv_silu_forward",
    "gate_backward",
    "gate_forward",
    "gated_rmsnorm_backward",
    "gated_rmsnorm_forward",
    "rwkv7_inputs_backward",
    "rwkv7_inputs_forward",
    "rwkv_output_backward",
    "rwkv_output_forward",
    "shift_mix_backward",
    "shift_mix_forward",
    "ssd_backward",
    "ssd_forward",
    "wkv6_backward",
    "wkv6_forward",
    "wkv7_backward",
    "wkv7_forward",
]
