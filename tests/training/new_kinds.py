"""A part of each kind that a run can be made of, entered as the built-in ones are."""

import numpy as np

from microgpt.batches.batches import shifted
from microgpt.core import ops
from microgpt.decoding.decoder import Request, answer_all, uniform_stream
from microgpt.decoding.sampler import SamplerConfig
from microgpt.model import Batch
from microgpt.model.kinds import MIXERS, MLPS, NORMS
from microgpt.model.layer import Cost
from microgpt.model.linear import Linear
from microgpt.model.parameters import Parameter
from microgpt.runs.kinds import OPTIMIZERS, PENALTIES, SOURCES
from microgpt.training.optimizer import Optimizer
from microgpt.training.parts import Corpus


class Scale:
    """A norm that is none: y = x * weight."""

    def __init__(self, name, C, eps=0.0, gain=True, bias=False):
        self.weight = Parameter(f"{name}.weight", (C,), 0, decay=False, kind="gain")

    def parameters(self):
        return [self.weight]

    def forward(self, x, p, y=None):
        return self.rebuild(x, None, p, y), None

    def rebuild(self, x, saved, p, y=None):
        return np.multiply(x, p[self.weight.name], out=y)

    def backward(self, dy, x, saved, p, g, by_pass=0.0, dx=None):
        g[self.weight.name][:] += (dy * x).sum(0)
        return np.add(dy * p[self.weight.name], by_pass, out=dx)

    def cost(self):
        return Cost(flop=6 * self.weight.size)


class Square:
    """An MLP: y = proj(fc(x)^2), twice as wide inside."""

    def __init__(self, at, config):
        C = config.n_embd
        self.fc = Linear(f"{at}.square.fc", 2 * C, C, config.init_std)
        self.proj = Linear(f"{at}.square.proj", C, 2 * C, config.std_into_residual)

    def parameters(self):
        return self.fc.parameters() + self.proj.parameters()

    def forward(self, x, p, call):
        wide = self.rebuild(x, p, call)
        return self.proj.forward(wide * wide, p, call), wide

    def rebuild(self, x, p, call):
        return self.fc.forward(x, p, call)

    def backward(self, dy, x, wide, p, g, call):
        self.proj.backward_weight(dy, wide * wide, p, g, call)
        d_wide = 2 * wide * self.proj.backward_input(dy, p, call)
        return self.fc.backward(d_wide, x, p, g, call)

    def cost(self, T):
        return self.fc.cost() + Cost(kept=self.fc.n_out, passing=3 * self.fc.n_out) + self.proj.cost()


class Sum:
    """What a mean remembers: the sum of the rows it has seen."""

    def __init__(self, C, dtype):
        self.sum, self.length = np.zeros(C, dtype), 0

    def rewind(self, n):
        if n < self.length:
            self.sum[:], self.length = 0, 0
        return self.length

    def copy(self):
        twin = Sum(len(self.sum), self.sum.dtype)
        twin.sum[:], twin.length = self.sum, self.length
        return twin


class Mean:
    """A mixer: y = proj(mean of all rows up to this one)."""

    def __init__(self, at, index, config):
        self.at, self.C = at, config.n_embd
        self.proj = Linear(f"{at}.mean.proj", self.C, self.C, config.std_into_residual)

    def parameters(self):
        return self.proj.parameters()

    def _means(self, x, call):
        counts = np.arange(1, call.T + 1, dtype=x.dtype)[:, None]
        return (x.reshape(call.B, call.T, -1).cumsum(1) / counts).reshape(x.shape)

    def forward(self, x, p, call):
        if call.states is None:
            means = self._means(x, call)
            return self.proj.forward(means, p, call), means
        means, begin = np.empty_like(x), 0
        for state, n in call.sequences(self.at):
            for row in range(begin, begin + n):
                state.sum += x[row]
                state.length += 1
                means[row] = state.sum / state.length
            begin += n
        return self.proj.forward(means, p, call), None

    def rebuild(self, x, p, call):
        return self._means(x, call)

    def backward(self, dy, x, means, p, g, call):
        d_means = self.proj.backward(dy, means, p, g, call).reshape(call.B, call.T, -1)
        shares = d_means / np.arange(1, call.T + 1, dtype=x.dtype)[:, None]
        return np.ascontiguousarray(shares[:, ::-1].cumsum(1)[:, ::-1]).reshape(x.shape)

    def new_states(self, capacity, dtype):
        return {self.at: Sum(self.C, dtype)}

    def cost(self, T):
        return self.proj.cost() + Cost(kept=self.C, passing=2 * self.C, state_bytes=0)


class Momentum(Optimizer):
    """Stochastic gradient descent with one slot."""

    @staticmethod
    def parameters_of_slots(parameters):
        return {"velocity": [parameter for parameter in parameters if parameter.trainable]}

    def apply(self, lr, grad_scale=1.0):
        velocity, grads = self.slots["velocity"].flat, self.model.grads.flat
        velocity *= np.float32(0.9)
        velocity += np.float32(grad_scale) * grads
        self.model.params.flat[:] -= np.float32(lr) * velocity
        grads[:] = 0


class Leash:
    """A penalty strength / 2 * sum(w^2), whose strength grows by the step."""

    def __init__(self, parts):
        self.model, self.strength = parts.model, 0.01

    def add(self, loss, n):
        weights = self.model.params.flat
        self.model.grads.flat[:] += np.float32(n * self.strength) * weights
        value = self.strength / 2 * ops.sum_squares(weights)
        self.strength *= 1.05
        return value

    def facts(self):
        return {"strength": self.strength}

    def state(self):
        return {"strength": self.strength}

    def restore(self, state):
        self.strength = state.get("strength", 0.01)


class OwnWords(Corpus):
    """Every other micro-batch is what the model says now after the beginning of one of the corpus."""

    def __init__(self, parts):
        super().__init__(parts)
        self.parts, self.said = parts, 0

    def batch(self, index):
        batch = super().batch(index)
        if index % 2:
            return batch
        model, tokenizer = self.parts.model, self.parts.prepared.tokenizer
        T, config = model.config.seq_len, SamplerConfig(temperature=1.0)
        asked = [Request(row[:4], config, T + 1, uniform_stream(index, b)) for b, row in enumerate(batch.ids)]
        rows = np.zeros((len(asked), T + 1), np.int32)
        for b, answer in answer_all(model, tokenizer, asked):
            words = [*asked[b].prompt, *answer.ids][: T + 1]
            rows[b, : len(words)] = words
            self.said += len(answer.ids)
        return Batch(*map(np.ascontiguousarray, shifted(rows)))

    def state(self):
        return {"said": self.said}

    def restore(self, state):
        self.said = state.get("said", 0)


KINDS = {
    "norm": (NORMS, Scale, {"norm": "toy"}),
    "mlp": (MLPS, Square, {"mlp": "toy"}),
    "mixer": (MIXERS, Mean, {"mixer": "toy attention"}),
    "optimizer": (OPTIMIZERS, Momentum, {"optimizer": "toy"}),
    "penalty": (PENALTIES, Leash, {"penalty": "toy"}),
    "source": (SOURCES, OwnWords, {"source": "toy"}),
}
