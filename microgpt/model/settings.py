"""The settings of a model: of each its type, default, unit, range and help.

Flags, checks and `--help` follow from them.  Which go together, and what follows from them, is in config.py.
"""

import dataclasses

from microgpt.common.setting import NOT_NEGATIVE, REQUIRED, Range, from_to, setting

from .kinds import MLPS, NORMS

LARGEST = 1e300  # of a number that is computed with
FUSIONS = ("scalar", "channel", "position", "gate", "concat")
BIASES = ("qkv", "proj", "mlp", "norm", "head")  # what may add a bias
LORA = "adapters"  # the group of their flags
COUNT = Range(1, 1 << 31)  # of layers, heads, channels, positions, tokens


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """Shape and kind of a GPT, as they are named; `ModelConfig` is what they make."""

    n_layer: int = setting(REQUIRED, "layers", "count", group="model", within=COUNT)
    n_head: int = setting(
        REQUIRED, "attention heads; must divide n-embd", "count", group="model", within=COUNT
    )
    n_embd: int = setting(REQUIRED, "channels of the residual stream", "count", group="model", within=COUNT)
    seq_len: int = setting(
        REQUIRED, "window: how far the model sees back", "tokens", group="model", within=COUNT
    )
    vocab_size: int = setting(
        REQUIRED, "size of the vocabulary; the tokenizer's", "tokens", group="model", within=COUNT
    )
    dropout: float = setting(
        0.0,
        "probability of dropping an element, on embedding and branches",
        group="model",
        within=Range(0, 1),
    )
    init_std: float = setting(
        0.02, "standard deviation of the initial weights", group="model", within=Range(0, LARGEST)
    )
    rope_theta: float = setting(
        10000.0, "base of the rotary angles", group="model", within=Range(0, LARGEST, is_open=True)
    )
    look_back: int = setting(
        0,
        "earlier tokens whose embeddings are added to that of each token, weighted by channel; with 2 a "
        "small model learns to copy names sooner; 0: none",
        "tokens",
        group="model",
        within=NOT_NEGATIVE,
    )
    n_kv_head: int = setting(
        0, "key and value heads; 0: as many as n-head", "count", group="model", within=NOT_NEGATIVE
    )
    norm: str = setting("rmsnorm", "kind of norm", choices=NORMS, group="model")
    norm_eps: float = setting(
        1e-5, "what norms add to the mean square", group="model", within=Range(0, 1, is_open=True)
    )
    norm_gain: bool = setting(True, "norms scale each channel", group="model")
    norm_place: str = setting(
        "before", "where the norm of a branch stands", choices=("before", "after", "both"), group="model"
    )
    embedding_norm: bool = setting(False, "a norm behind the embedding", group="model")
    qk_norm: str = setting(
        "none",
        "norm of queries and keys: of each head, or of the whole row",
        choices=("none", "head", "whole"),
        group="model",
    )
    qk_norm_after_rope: bool = setting(
        False, "that norm comes after queries and keys were turned by their positions", group="model"
    )
    bias: str = setting(
        "none",
        f"what adds a bias, names of {', '.join(BIASES)} with spaces between; none: nothing",
        "names",
        group="model",
    )
    mlp: str = setting("gelu", "kind of MLP", choices=MLPS, group="model")
    attention: str = setting(
        "full",
        "which past positions the layers' attention sees, the first layer's first, and over again: full, "
        "all; local, a window; local_global, a window and every stride-th position before it",
        "names",
        group="model",
    )
    window: int = setting(
        0,
        "positions that local attention sees, its own among them; 0: 6 sqrt(seq-len), 4 sqrt from 2048 on",
        "tokens",
        group="model",
        within=NOT_NEGATIVE,
    )
    global_stride: int = setting(
        0,
        "steps between the positions of a document that local_global attention sees from afar; "
        "0: sqrt(seq-len)",
        "tokens",
        group="model",
        within=NOT_NEGATIVE,
    )
    n_inner: int = setting(
        0,
        "channels inside an MLP; 0: 4 n-embd, in gated kinds 8/3 n-embd rounded up to a multiple of 64",
        "count",
        group="model",
        within=NOT_NEGATIVE,
    )
    n_expert: int = setting(4, "experts of the MLP moe", "count", group="model", within=from_to(1, 1024))
    top_k: int = setting(
        2, "experts that each token goes through", "count", group="model", within=from_to(1, 1024)
    )
    expert: str = setting("gelu", "kind of MLP that experts are", choices=MLPS, group="model")
    expert_inner: int = setting(
        0,
        "channels inside an expert; 0: so that a token meets as many weights as in an MLP of n-inner",
        "count",
        group="model",
        within=NOT_NEGATIVE,
    )
    shared_expert_inner: int = setting(
        0,
        "channels inside an expert that every token goes through besides; 0: there is none",
        "count",
        group="model",
        within=NOT_NEGATIVE,
    )
    renormalize: bool = setting(True, "what a token's experts count adds up to 1", group="model")
    balance_loss: float = setting(
        0.01,
        "how much the loss that spreads tokens over experts counts",
        group="model",
        within=Range(0, LARGEST),
    )
    balance_by: str = setting(
        "choice",
        "of what the shares of experts in that loss are: of tokens, so that they add up to top-k; or of "
        "choices, to 1",
        choices=("choice", "token"),
        group="model",
    )
    balance_over: str = setting(
        "layer",
        "that loss is the mean of the layers'; or one of the model, of means over all layers",
        choices=("layer", "model"),
        group="model",
    )
    z_loss: float = setting(
        0.0,
        "how much the squared log-sum-exp of the router's logits counts, which keeps them small",
        group="model",
        within=Range(0, LARGEST),
    )
    parallel: bool = setting(False, "mixer and MLP of a layer beside, not behind each other", group="model")
    positions: str = setting(
        "rope",
        "how layers know positions: learned, a table added to the embedding; or rope and none, the first "
        "layer's first, and over again",
        "names",
        group="model",
    )
    rope_share: float = setting(
        1.0, "part of a head's channels that turn by position", group="model", within=Range(0, 1, True, False)
    )
    rope_scaling: str = setting(
        "none",
        "to see farther than a model was trained to: linear, all turn slower; ntk, slow channels more",
        choices=("none", "linear", "ntk"),
        group="model",
    )
    rope_factor: float = setting(1.0, "how many times as far", group="model", within=Range(1, LARGEST))
    tied: bool = setting(True, "the head that makes logits is the embedding's matrix", group="model")
    logit_cap: float = setting(
        0.0, "soft bound of logits: cap tanh(logits / cap); 0: none", group="model", within=Range(0, LARGEST)
    )
    value_embedding: int = setting(
        0,
        "1: the attention of each layer adds an embedding of its own to its values; 2: of each second layer, "
        "counted from the last; 0: none",
        "layers",
        group="model",
        within=from_to(0, 64),
    )
    embedding_mix: bool = setting(
        False, "each layer mixes the embedding into its input, in learned shares", group="model"
    )
    init: str = setting(
        "normal", "how initial weights are drawn", choices=("normal", "uniform"), group="model"
    )
    init_out: str = setting(
        "scaled",
        "initial weights into the residual stream: smaller by 1/sqrt(2 n-layer), as the others, or zero",
        choices=("scaled", "plain", "zero"),
        group="model",
    )
    init_embedding_std: float = setting(
        0.0, "init-std of embeddings; 0: init-std", group="model", within=Range(0, LARGEST)
    )
    init_head_std: float = setting(
        0.0, "init-std of an untied head; 0: init-std", group="model", within=Range(0, LARGEST)
    )
    lora_rank: int = setting(
        0,
        "rank of adapters beside the matrices of the layers, which alone are trained then; 0: there are none",
        "rank",
        group=LORA,
        within=NOT_NEGATIVE,
    )
    lora_alpha: float = setting(
        0.0,
        "adapters count alpha / rank; 0: alpha is twice the rank",
        group=LORA,
        within=Range(0, LARGEST),
    )
    lora_targets: str = setting(
        "all",
        "the matrices that have adapters, names of q, k, v, o, gate, up, down with spaces between; all: each "
        "that is larger than its adapter",
        "names",
        group=LORA,
    )
    lora_dropout: float = setting(
        0.05, "probability of dropping an element that goes into an adapter", group=LORA, within=Range(0, 1)
    )
    base_weights: str = setting(
        "fp32",
        "how the matrices beside adapters are stored; bf16 takes half the memory",
        choices=("fp32", "bf16"),
        group=LORA,
    )
    mixer: str = setting(
        "attention",
        "kinds of the layers through which positions see each other, the first layer's first, and over "
        "again; two kinds beside each other with a plus, as in rwkv7+mamba2",
        "names",
        group="model",
    )
    recurrent_head: int = setting(
        64, "channels of a head of recurrent layers; must divide n-embd", "count", group="model", within=COUNT
    )
    mamba_expand: int = setting(2, "how much wider Mamba is inside", "times", group="model", within=COUNT)
    mamba_state: int = setting(
        64, "channels of Mamba's keys and queries", "count", group="model", within=COUNT
    )
    fusion: str = setting(
        "scalar",
        "what is made of two mixers beside each other: a weighted sum, by one share (scalar), one of each "
        "channel, of each position, or of both (gate); or a projection of the two (concat)",
        choices=FUSIONS,
        group="model",
    )
    fusion_share: float = setting(
        0.5,
        "share of the second of two mixers when training begins",
        group="model",
        within=Range(0, 1, is_open=True),
    )


ADAPTER_FIELDS = tuple(f.name for f in dataclasses.fields(ModelSettings) if f.metadata.get("group") == LORA)
