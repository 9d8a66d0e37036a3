"""From a configuration to layers, and what follows from them: parameters, counts, costs."""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from microgpt.common.errors import ConfigError

from .block import Block
from .config import ModelConfig
from .embedding import Embedding
from .layer import Cost
from .linear import Linear
from .lora import ALL, is_adapter, saved, targets_in, wanted_targets, with_frozen_base
from .norm import new_norm
from .parameters import Parameter

# Rows of logits that exist at once: (512, V) floats stay in the last-level cache, and (B*T, V) never exist.
HEAD_ROWS = 512


TABLES = ("wte.weight", "head.weight")  # the embedding and a head of its own, by name


class Architecture:
    """The layers of a model: embedding, blocks, last norm, and the head, by default the embedding turned."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        head_std, shape = config.init_head_std or config.init_std, (config.vocab_size, config.n_embd)
        self.head = (
            Linear("wte", *shape, head_std)  # the embedding's weight
            if config.tied
            else Linear("head", *shape, head_std, config.has_bias("head"), config.init, kind="head")
        )
        self.embedding = Embedding(config)
        self.blocks = [Block(i, config.mixer_of(i), config) for i in range(config.n_layer)]
        self.norm = new_norm("ln_f", config.n_embd, config)

    def parameters(self) -> list[Parameter]:
        """All parameters in the order in which they lie in memory.

        Raises: ConfigError: adapters for a matrix that is not there.
        """
        of_blocks = [parameter for block in self.blocks for parameter in block.parameters()]
        parameters = [*self.embedding.parameters(), *of_blocks, *self.norm.parameters(), *self._of_head()]
        refuse_unfit_adapters(self.config)
        return with_frozen_base(parameters, self.config)

    def outside(self) -> list[Parameter]:
        """Those that belong to no block."""
        own = self.embedding.parameters() + self.norm.parameters() + self._of_head()
        return with_frozen_base(own, self.config)

    def _of_head(self) -> list[Parameter]:
        return [] if self.config.tied else self.head.parameters()

    def head_cost(self) -> Cost:
        """Of the last norm and the product that makes logits, which is where a tied embedding is counted."""
        return self.norm.cost() + self.head.cost()


def blocks_by_kind(config: ModelConfig) -> list[tuple[Block, int]]:
    """One block of each kind that the model has, and how often: costs follow at once for any depth."""
    return [(Block(layer, config.mixer_of(layer), config), n) for layer, n in config.layer_counts.items()]


def refuse_unfit_adapters(config: ModelConfig) -> None:
    """Refuse adapters that lie beside nothing, which is known before any text is read or memory is taken.

    Raises: ConfigError: a matrix that is named is not there, or of so high a rank that none is larger.
    """
    if not config.lora_rank:
        return
    found = targets_in(_of_adapters(config))
    missing = (wanted_targets(config) or set()) - found
    if found and not missing:
        return
    there, rank = targets_in(_of_adapters(replace(config, lora_targets=ALL))), config.lora_rank
    if not there:
        raise ConfigError(
            f"--lora-rank {rank}: expected 1 to {highest_rank(config)}, below the smaller side of a matrix "
            "of this model"
        )
    raise ConfigError(
        f"--lora-targets {', '.join(sorted(missing)) or ALL} with --lora-rank {rank}: matrices of this model "
        f"that are larger are {', '.join(sorted(there))}"
    )


def highest_rank(config: ModelConfig) -> int:
    """Of adapters: one less than the smaller side of the matrix of the layers in which that is largest."""
    sides: dict[str, int] = {}
    for part in _of_adapters(replace(config, lora_rank=1, lora_targets=ALL)):  # (1, n_in) and (rows, 1)
        name = part.name.rpartition(".")[0]
        sides[name] = min(part.size, sides.get(name, part.size))
    return max(sides.values()) - 1


def _of_adapters(config: ModelConfig) -> list[Parameter]:
    return [part for block, _ in blocks_by_kind(config) for part in block.parameters() if is_adapter(part)]


def table(config: ModelConfig) -> list[Parameter]:
    """All parameters of the model that a configuration describes, in order."""
    return Architecture(config).parameters()


def stored(config: ModelConfig) -> list[Parameter]:
    """The parameters that a checkpoint of the model holds."""
    return saved(table(config))


def parameter_groups(config: ModelConfig) -> list[tuple[list[Parameter], int]]:
    """The parameters outside the blocks, and those of one block of each kind, each with how often."""
    outside = Architecture(replace(config, n_layer=1)).outside()
    blocks = ((with_frozen_base(block.parameters(), config), n) for block, n in blocks_by_kind(config))
    return [(outside, 1), *blocks]


@lru_cache(maxsize=64)
def count_parameters(config: ModelConfig) -> int:
    """Parameters, the tied embedding counted once: 12 L C^2 + (2L+1) C + V C for the default kinds."""
    return sum(n * _size(parameters) for parameters, n in parameter_groups(config))


def _size(parameters: list[Parameter]) -> int:
    return sum(parameter.size for parameter in parameters)


def count_layer_parameters(config: ModelConfig) -> int:
    """The same without embeddings and head, so that it does not depend on the vocabulary."""
    layers = Architecture(replace(config, n_layer=1))
    outside = _size(_of_layers(layers.embedding.parameters() + layers.norm.parameters()))
    return outside + sum(n * _size(_of_layers(block.parameters())) for block, n in blocks_by_kind(config))


def _of_layers(parameters: list[Parameter]) -> list[Parameter]:
    return [parameter for parameter in parameters if parameter.kind != "embedding"]


def count_active_parameters(config: ModelConfig) -> int:
    """Parameters that one token has to do with: all but those of experts that it does not go to."""
    idle = sum(n * block.cost(config.seq_len).idle for block, n in blocks_by_kind(config))
    return count_parameters(config) - idle


@lru_cache(maxsize=64)
def flop_per_token(config: ModelConfig, T: int | None = None) -> float:
    """FLOP of forward and backward for a token: 6 a parameter, and 12 C a layer of attention for each
    position that it sees, (T + 1) / 2 where it sees all that came before."""
    blocks = sum(n * block.cost(T or config.seq_len).flop for block, n in blocks_by_kind(config))
    outside = Architecture(replace(config, n_layer=1))
    return outside.embedding.cost().flop + outside.head_cost().flop + blocks


def activation_floats(config: ModelConfig, n_tokens: int, recompute: bool = False) -> float:
    """Floats of all arrays that a step on so many tokens needs beside weights, gradients and scratch."""
    costs = [(block.cost(config.seq_len), n) for block, n in blocks_by_kind(config)]
    if recompute:
        stays = max(cost.kept for cost, _ in costs) + config.n_layer * config.n_embd
    else:
        stays = sum(n * cost.kept for cost, n in costs)
    if config.embedding_mix:
        stays += 2 * config.n_embd  # the embedding, and its gradient
    head_rows = min(n_tokens, HEAD_ROWS)
    passing = max(cost.passing for cost, _ in costs)
    logits = config.vocab_size * (2 if config.logit_cap else 1)
    return n_tokens * (stays + passing) + head_rows * (logits + config.n_embd)


def memory_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """What the model remembers of one row's text beyond a call, by the names of `Batch.memory`."""
    layers = Architecture(config)
    of_blocks = [item for block in layers.blocks for item in block.memory().items()]
    return {**layers.embedding.memory(), **dict(of_blocks)}


def is_recurrent(config: ModelConfig) -> bool:
    """Whether any block of the model remembers text beyond a call."""
    return any(block.memory() for block, _ in blocks_by_kind(config))


def beside_bigrams(config: ModelConfig) -> str:
    """What keeps a new model from being a table of bigrams, which foretells a token by the one before it
    alone; empty: nothing."""
    if config.tied:
        return (
            "a tied head says as much of what comes before a token as of what follows; take a preset such as "
            "10m-untied"
        )
    if config.init_out != "zero":
        return "branches of layers that do not begin at zero add noise; take --init-out zero"
    if config.look_back or config.positions == "learned":
        return "a row is not of its token alone; leave --look-back and --positions learned out"
    return ""


def state_bytes(config: ModelConfig) -> int:
    """Of what a decoder remembers of each token."""
    of_ids = np.dtype(np.int32).itemsize
    return of_ids + sum(n * block.cost(config.seq_len).state_bytes for block, n in blocks_by_kind(config))


def products(config: ModelConfig, n_tokens: int) -> list[tuple[int, int, int]]:
    """(N, M, K) of every matrix product (N, K) -> (N, M) of a step, those of equal blocks once."""
    blocks = blocks_by_kind(config)
    of_blocks = {product for block, _ in blocks for product in block.cost(config.seq_len).products}
    head = (min(n_tokens, HEAD_ROWS), config.vocab_size, config.n_embd)
    return [*((n_tokens, *product) for product in sorted(of_blocks)), head]
