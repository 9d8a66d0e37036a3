"""A mixture of experts: many MLPs, of which each token goes through a few."""

from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.core import arrays, ops

from .config import ModelConfig
from .kinds import MLPS
from .layer import Call, Cost, Saved
from .linear import Linear
from .mlp import ACTIVATIONS, inner_width
from .parameters import Arena, Parameter


class Routing(NamedTuple):
    """Where N tokens go.

    probs:  (N, E), softmax of the router's logits.   lse: (N,), log-sum-exp of the logits.
    chosen: (N, k), experts by falling probability, the lower number first where they are equal.
    gates:  (N, k), what the results of those experts count.
    places: (N, k) int32, where those results stand when the rows of each expert stand side by side.
    ends:   (E + 1,), where the rows of each expert begin and end there.
    """

    probs: np.ndarray
    lse: np.ndarray
    chosen: np.ndarray
    gates: np.ndarray
    places: np.ndarray
    ends: np.ndarray

    @property
    def load(self) -> np.ndarray:
        """Tokens that go to each expert, (E,)."""
        return np.diff(self.ends)


class SharedExpert:
    """y = sigmoid(gate(x)) mlp(x), of every token; as in transformers' Qwen2Moe."""

    def __init__(self, name: str, config: ModelConfig) -> None:
        inside = replace(config, mlp=config.expert, n_inner=config.shared_expert_inner)
        self.mlp = MLPS[config.expert](f"{name}.shared", inside)
        self.gate = Linear(f"{name}.shared_gate", 1, config.n_embd, config.init_std)

    def parameters(self) -> list[Parameter]:
        """Of the MLP and of the gate."""
        return self.mlp.parameters() + self.gate.parameters()

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """What the MLP made (N, C), how much that counts (N, 1), and what the MLP's backward needs."""
        made, inner = self.mlp.forward(x, p, call)
        return made, 1 / (1 + np.exp(-self.gate.forward(x, p, _exact(call)))), inner

    def result(self, saved: Saved) -> np.ndarray:
        """y (N, C)."""
        made, share, _ = saved
        return share * made

    def backward(
        self, dy: np.ndarray, x: np.ndarray, saved: Saved, p: Arena, g: Arena, call: Call
    ) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C)."""
        made, share, inner = saved
        d_gate = (dy * made).sum(-1, keepdims=True) * share * (1 - share)
        dx = self.gate.backward(d_gate, x, p, g, _exact(call))
        dx += self.mlp.backward(share * dy, x, inner, p, g, call)
        return dx

    def cost(self, T: int) -> Cost:
        """What the MLP made stays."""
        return self.mlp.cost(T) + self.gate.cost() + Cost(kept=self.gate.n_in + 1)


class MoE:
    """y = sum over the k likeliest experts of gate_e expert_e(x), p = softmax(router(x)) in fp32

    gate_e is p_e, or its share among the k.  A shared expert, if there is one, works on every token besides,
    times sigmoid(shared_gate(x)).  No token is dropped, however many go to one expert, so none depends on
    those beside it.

    Two penalties keep the router even and small.  They are no part of the reported loss; their gradients are
    added to its own, as often as the call has targets, so that a step's penalty is the mean over its targets:
    balance: coefficient * E sum_e f_e P_e, f_e the share of tokens (or of choices) that go to e, P_e its mean
             probability; both over the call's tokens of this layer, or of all layers.
    z:       coefficient * mean of lse^2.
    Where all tokens are targets, the z penalty does not depend on how a step is cut into calls.  The other is
    a product of means, of which no sum over calls is that of all: a step's is the mean of its calls'.

    Source: Shazeer et al. 2017 (arXiv 1701.06538); balance: Fedus et al. 2021 (arXiv 2101.03961); z: Zoph et
            al. 2022 (arXiv 2202.08906).
    """

    def __init__(self, name: str, config: ModelConfig) -> None:
        self.name, self.config, self.C = name, config, config.n_embd
        self.router = Linear(f"{name}.router", config.n_expert, self.C, config.init_std)
        if config.expert not in ACTIVATIONS:
            raise ConfigError(f"expert {config.expert}: expected one of {', '.join(ACTIVATIONS)}")
        as_wide = inner_width(config, ACTIVATIONS[config.expert].is_gated) // config.top_k
        width = config.expert_inner or max(1, as_wide)
        inside = replace(config, mlp=config.expert, n_inner=width)
        self.experts = [MLPS[config.expert](f"{name}.experts.{e}", inside) for e in range(config.n_expert)]
        self.shared = SharedExpert(name, config) if config.shared_expert_inner else None

    def parameters(self) -> list[Parameter]:
        """Of the router, of all experts and of the shared one."""
        parts = [self.router, *self.experts, *([self.shared] if self.shared else [])]
        return [parameter for part in parts for parameter in part.parameters()]

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        saved = self.rebuild(x, p, call)
        routing, results, _, shared = saved
        y = ops.combine_forward(results, routing.gates, routing.places)
        if self.shared:
            y += self.shared.result(shared)
        return y, saved

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """Where tokens go, and what experts made of them."""
        routing = self._route(x, p, call)
        rows = ops.dispatch_forward(x, routing.places)
        results, kept = arrays.empty_like(rows), []
        for expert, part in self._parts(routing):
            results[part], inner = expert.forward(rows[part], p, call)
            kept.append(inner)
        return routing, results, kept, self.shared.rebuild(x, p, call) if self.shared else None

    def backward(
        self, dy: np.ndarray, x: np.ndarray, saved: Saved, p: Arena, g: Arena, call: Call
    ) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C)."""
        routing, results, kept, shared = saved
        d_results, d_gates = ops.combine_backward(dy, results, routing.gates, routing.places)
        rows = ops.dispatch_forward(x, routing.places)
        d_rows = arrays.empty_like(rows)
        for (expert, part), inner in zip(self._parts(routing), kept, strict=True):
            d_rows[part] = expert.backward(d_results[part], rows[part], inner, p, g, call)
        dx = ops.dispatch_backward(d_rows, routing.places)
        d_logits = self._route_backward(d_gates, routing, call)
        dx += self.router.backward(d_logits, x, p, g, _exact(call))
        if self.shared:
            dx += self.shared.backward(dy, x, shared, p, g, call)
        return dx

    def cost(self, T: int) -> Cost:
        """Of k experts; results of experts stay, their rows pass."""
        k, C, expert = self.config.top_k, self.C, self.experts[0].cost(T)
        own = Cost(
            flop=k * expert.flop,
            kept=k * (expert.kept + C + 3) + self.config.n_expert + 1,
            passing=k * (expert.passing + 3 * C),
            products=expert.products,
            idle=(self.config.n_expert - k) * sum(p.size for p in self.experts[0].parameters()),
        )
        cost = self.router.cost() + own
        return cost + self.shared.cost(T) if self.shared else cost

    def _parts(self, routing: Routing) -> list[tuple[Any, slice]]:
        """The experts to which tokens go, and which rows are theirs."""
        ends = routing.ends.tolist()
        parts = [slice(begin, end) for begin, end in pairwise(ends)]
        return [
            (expert, part) for expert, part in zip(self.experts, parts, strict=True) if part.stop > part.start
        ]

    # ---- the router ------------------------------------------------------------------------------

    def _route(self, x: np.ndarray, p: Arena, call: Call) -> Routing:
        logits, k = self.router.forward(x, p, _exact(call)), self.config.top_k
        most = logits.max(-1, keepdims=True)
        probs = np.exp(logits - most)
        sums = probs.sum(-1, keepdims=True)
        probs /= sums
        lse = (most + np.log(sums))[:, 0]
        chosen = np.argsort(-probs, axis=-1, kind="stable")[:, :k].astype(np.int16)
        gates = np.take_along_axis(probs, chosen, -1)
        if self.config.renormalize:
            gates /= gates.sum(-1, keepdims=True)
        places = np.empty(chosen.size, np.int32)
        places[np.argsort(chosen.reshape(-1), kind="stable")] = np.arange(chosen.size, dtype=np.int32)
        load = np.bincount(chosen.reshape(-1), minlength=self.config.n_expert)
        routing = Routing(
            probs,
            lse,
            chosen,
            np.ascontiguousarray(gates),
            places.reshape(chosen.shape),
            np.append(0, load.cumsum()),
        )
        if call.states is None:
            self._tell(routing, call)
        return routing

    def _tell(self, routing: Routing, call: Call) -> None:
        """What this layer's router did, into the call; and the penalties of the layers so far."""
        call.shared[f"{self.name}.load"] = routing.load
        call.shared[f"{self.name}.probability"] = routing.probs.mean(0, dtype=np.float64)
        call.shared[f"{self.name}.z"] = np.square(routing.lse, dtype=np.float64).mean()
        call.facts[f"{self.name}.load"] = routing.load / routing.chosen.size
        call.facts["balance_loss"] = self._balance(call)
        call.facts["z_loss"] = float(np.mean(_told(call, "z")))

    def _frequencies(self, load: np.ndarray, call: Call) -> np.ndarray:
        """f of each expert."""
        of_each = 1 if self.config.balance_by == "token" else self.config.top_k
        return load / (call.B * call.T * of_each)

    def _balance(self, call: Call) -> float:
        """E sum of f P, without its coefficient: of all layers pooled, or the mean of the layers'."""
        f, P = self._frequencies(np.array(_told(call, "load")), call), np.array(_told(call, "probability"))
        if self.config.balance_over == "model":
            f, P = f.mean(0), P.mean(0)
        return float(self.config.n_expert * (f * P).sum(-1).mean())

    def _route_backward(self, d_gates: np.ndarray, routing: Routing, call: Call) -> np.ndarray:
        """Gradient of the logits (N, E): of the gates, and of both penalties."""
        config, probs = self.config, routing.probs
        if config.renormalize:
            whole = np.take_along_axis(probs, routing.chosen, -1).sum(-1, keepdims=True)
            d_gates = (d_gates - (d_gates * routing.gates).sum(-1, keepdims=True)) / whole
        load = np.mean(_told(call, "load"), 0) if config.balance_over == "model" else routing.load
        each = call.n_targets / (len(probs) * config.n_layer)  # of one token in one layer
        slope = config.balance_loss * each * config.n_expert * self._frequencies(load, call)
        d_probs = np.repeat(slope[None].astype(probs.dtype), len(probs), 0)
        places = routing.chosen.astype(np.int64)
        np.put_along_axis(d_probs, places, np.take_along_axis(d_probs, places, -1) + d_gates, -1)
        d_probs -= (d_probs * probs).sum(-1, keepdims=True)
        if config.z_loss:
            d_probs += (2 * config.z_loss * each * routing.lse[:, None]).astype(probs.dtype)
        return probs * d_probs


def _exact(call: Call) -> Call:
    """The call with products in fp32: a rounded router sends tokens elsewhere (Fedus et al. 2021, 2.4)."""
    return replace(call, precision="fp32")


def _told(call: Call, what: str) -> list[np.ndarray]:
    """What each router of the model told of the call."""
    return [array for name, array in call.shared.items() if name.endswith(f".mlp.{what}")]


def is_collapsed(load: np.ndarray, top_k: int) -> bool:
    """Whether a router leaves more than half of its choice unused.

    exp(entropy) of the shares counts the experts that are in use: E where all are used alike, k where all
    tokens go to the same ones, for each goes to k.  Collapsed: nearer to k than to E.

    Args: load: (E,), tokens of each expert, or their shares.
    """
    shares = load[load > 0] / load.sum()
    in_use = float(np.exp(-(shares * np.log(shares)).sum()))
    return len(load) > top_k and in_use < (len(load) + top_k) / 2


MLPS["moe"] = MoE
