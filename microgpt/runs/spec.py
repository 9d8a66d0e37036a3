"""What describes a run before it starts: a spec names some settings, a plan has them all."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.common.flags import flag_name
from microgpt.common.plain import check_settings, record_from
from microgpt.core import native
from microgpt.corpus.prepared.config import DataConfig, source_place
from microgpt.corpus.prepared.corpus import SMALLTALK, source_names
from microgpt.machine.cpus import threads_from_environment
from microgpt.model import ModelConfig, count_layer_parameters
from microgpt.model.architecture import beside_bigrams, is_recurrent, refuse_unfit_adapters
from microgpt.model.config import preset_values
from microgpt.model.presets import PRESETS
from microgpt.model.settings import ADAPTER_FIELDS
from microgpt.tokenizer import MAX_MERGES, SPECIALS

from .priors import Priors, settings_of
from .settings import LENGTHS, RECIPES, TrainConfig, recipe

DEFAULT_PRESET, DEFAULT_RECIPE = "10m", TrainConfig.recipe
NO_MERGES = 256 + len(SPECIALS)  # vocabulary of a tokenizer that merges nothing
PLACES = ("data", "held_out", "mixed", "replay")  # settings that hold places of files
# Settings that say nothing of how the corpus is prepared.
OF_OTHER_TEXT = {"data", "mixed", "shares", "replay", "replay_share"}
INNER = ("onward_", "shallow_steps", "shallow_cost")  # how settings begin that a run makes for itself
# What of a model may change when its weights are trained on.
CHANGEABLE = frozenset(
    ("seq_len", "dropout", "rope_theta", "rope_scaling", "rope_factor", "z_loss", *ADAPTER_FIELDS)
)
SECTIONS: dict[str, Any] = {"model": ModelConfig, "train": TrainConfig, "data": DataConfig}


def of_corpus(data: Mapping[str, Any]) -> list[str]:
    """Those of some settings that say how the corpus itself is prepared, not texts beside it."""
    of_others = OF_OTHER_TEXT | ({"smalltalk_bytes"} if SMALLTALK in data.get("replay", ()) else set())
    return [name for name in data if name not in of_others]


@dataclasses.dataclass(frozen=True)
class Parent:
    """The checkpoint whose weights a run begins with.

    place: where it lay then.  sha256: of its weights.  step: of it.  tokens: that it had been trained on, by
    its own parents, too.
    """

    place: str
    sha256: str
    step: int
    tokens: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run is asked to be.  `model.vocab_size` is settled by the corpus's tokenizer.

    parent: whose weights it begins with; None: it begins with random ones.
    """

    model: ModelConfig
    train: TrainConfig
    data: DataConfig
    preset: str = ""
    parent: Parent | None = None

    def __post_init__(self) -> None:
        if self.model.lora_rank and self.parent is None:
            raise ConfigError(
                f"--lora-rank {self.model.lora_rank}: adapters go beside weights that were trained; name "
                "those with --from"
            )
        refuse_unfit_adapters(self.model)
        if self.train.carry_state and not is_recurrent(self.model):
            raise ConfigError(
                f"--carry-state: nothing is carried on by --mixer {self.model.mixer!r}; choose a recurrent "
                "one, such as rwkv7 or mamba2"
            )
        passes = self.train.bigram_passes
        if passes and (
            why := beside_bigrams(self.model) if self.parent is None else "they are for a new model"
        ):
            raise ConfigError(f"{self._told('bigram_passes')}: {why}")
        self._check_depth()

    def _told(self, name: str) -> str:
        """A setting of training as a flag, with the recipe that has it."""
        value, recipe = getattr(self.train, name), self.train.recipe
        of_recipe = RECIPES[recipe].train.get(name) == value
        return f"--recipe {recipe}, which has " * of_recipe + f"{flag_name(name)} {value}"

    def _check_depth(self) -> None:
        """Raises: ConfigError: --shallow-blocks where the others would not begin with nothing."""
        n, model = self.train.shallow_blocks, self.model
        if not n:
            return
        why = ""
        if self.parent is not None:
            why = "all blocks of a trained model say something; it is for a new one"
        elif n >= model.n_layer:
            why = f"expected fewer than all blocks, which are {model.n_layer}"
        elif model.init_out != "zero" or model.embedding_mix:
            why = "blocks that say something from the start cannot be left out; take --init-out zero"
        elif self.train.carry_state:
            why = "blocks that join later carry nothing on; leave --carry-state out"
        if why:
            raise ConfigError(f"{self._told('shallow_blocks')}: {why}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for config.json."""
        document: dict[str, Any] = {"format": 1, "preset": self.preset}
        if self.parent:
            document["parent"] = dataclasses.asdict(self.parent)
        return document | {name: getattr(self, name).to_dict() for name in SECTIONS}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> "Plan":
        """The plan that `to_dict` described."""
        sections = {name: kind.from_dict(document[name]) for name, kind in SECTIONS.items()}
        parent = document.get("parent")
        known = None if parent is None else record_from(Parent, parent, "config.json")
        return cls(**sections, preset=str(document.get("preset", "")), parent=known)

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step sees."""
        return self.train.windows_per_step * self.model.seq_len

    @property
    def planned_tokens(self) -> int:
        """Tokens of all steps; 0 before their number is known."""
        return self.train.max_steps * self.tokens_per_step

    def with_train(self, **changes: Any) -> "Plan":
        """The plan with other training settings."""
        return dataclasses.replace(self, train=dataclasses.replace(self.train, **changes))


@dataclasses.dataclass(frozen=True)
class Spec:
    """What somebody wants a run to be: settings by name.  What is not named follows preset and size.

    model, train, data: fields of ModelConfig, TrainConfig and DataConfig, as JSON has them.
    parent: a run or a checkpoint, whose weights this one begins with and whose model it is.
    priors: rules (`runs/priors.py`) for what `model` does not name, as JSON has them.
    Raises: ConfigError: a name that no setting has, or a value of another type.
    """

    preset: str | None = None
    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    train: dict[str, Any] = dataclasses.field(default_factory=dict)
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    parent: str | None = None
    priors: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        Priors.from_dict(self.priors)
        for name, kind in SECTIONS.items():
            values = {key: _plain(key, value) for key, value in getattr(self, name).items()}
            check_settings(kind, values, "spec")
            object.__setattr__(self, name, values)
        if len(self.lengths) > 1:
            flags = " and ".join(map(flag_name, self.lengths))
            raise ConfigError(f"{flags} each say how long the run is; give one of them")

    @classmethod
    def of(
        cls,
        preset: str | None = None,
        parent: str | None = None,
        priors: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> "Spec":
        """From settings of all kinds: of("tiny", data="my.txt", max_steps=300)."""
        sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
        for name, value in settings.items():
            sections[section_of(name)][name] = value
        return cls(preset, **sections, parent=parent, priors=dict(priors or {}))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON and TOML have them."""
        names = {"preset": self.preset, "parent": self.parent, "priors": dict(self.priors)}
        named = {name: value for name, value in names.items() if value}
        return named | {name: dict(getattr(self, name)) for name in SECTIONS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Spec":
        """The spec that `to_dict` described."""
        return record_from(cls, dict(values), "spec")

    def over(self, base: "Spec") -> "Spec":
        """These settings, and those of another spec that are not among them.

        Where this one names another preset or recipe, what the other has from its own gives way; and how long
        the run is, one of the two says alone.
        """
        sections = {name: dict(getattr(base, name)) for name in SECTIONS}
        if self.preset not in (None, base.preset) or self.train.get("recipe", base.recipe) != base.recipe:
            own = Spec(base.preset, train={"recipe": base.recipe}).plan().to_dict()
            for section, values in sections.items():
                for name in [name for name in values if values[name] == own[section][name]]:
                    del values[name]
            sections["train"]["recipe"] = base.recipe
        if self.is_timed or self.lengths:
            for name in (*LENGTHS, "max_time"):
                sections["train"].pop(name, None)
        merged = {name: values | getattr(self, name) for name, values in sections.items()}
        priors = base.priors | self.priors
        return Spec(self.preset or base.preset, **merged, parent=self.parent or base.parent, priors=priors)

    @property
    def lengths(self) -> list[str]:
        """The settings that say how long the run is, but for a time limit."""
        return [name for name in LENGTHS if self.train.get(name) is not None]

    @property
    def is_timed(self) -> bool:
        """Whether the number of steps follows from a time limit."""
        return self.train.get("max_time") is not None and not self.lengths

    @property
    def recipe(self) -> str:
        """The recipe that is named, or the default.  Raises: ConfigError: there is none of that name."""
        name = self.train.get("recipe", DEFAULT_RECIPE)
        if name not in RECIPES:
            raise ConfigError(f"--recipe {name}: expected {' or '.join(RECIPES)}")
        return str(name)

    def resolved(self, shape: Mapping[str, Any] | None = None) -> "Spec":
        """The same with settings of the model in place of priors.

        shape: settings that they follow where this names none; None: those of preset and recipe.
        """
        if not self.priors:
            return self
        if shape is None:
            named = RECIPES[self.recipe].model | self.model
            shape = preset_values(self.preset or DEFAULT_PRESET, named)
        known = {**shape, **self.model, **self.train}
        found = settings_of(Priors.from_dict(self.priors), known, self.model)
        return dataclasses.replace(self, model=found | self.model, priors={})

    def data_config(self) -> DataConfig:
        """The corpus that is named.  A vocabulary size is another way to say how many merges."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in self.data.items()
        }
        if "vocab_size" in self.model:
            values["merges"] = merges_of(self.model["vocab_size"], values.get("merges"))
        return DataConfig(**values)

    def plan(self, vocab_size: int | None = None, parent: tuple[Parent, "Plan"] | None = None) -> Plan:
        """All settings.

        Args:   vocab_size: of the corpus; until it is read, what it should have is taken.
                parent: the checkpoint that is named, and what its run was.
        Raises: ConfigError: settings that cannot be, or that contradict each other, the corpus or the parent.
        """
        if self.priors and parent is not None:
            raise ConfigError(
                f"[priors] are for a new model; the weights of {parent[0].place} have a shape: leave them out"
            )
        if self.priors:
            return self.resolved().plan(vocab_size)
        if parent is not None:
            return self._plan_from(*parent)
        data, wanted = self.data_config(), self.model.get("vocab_size")
        if vocab_size is not None and wanted not in (None, vocab_size):
            raise ConfigError(
                f"--vocab-size {wanted}: the tokenizer of this corpus has {vocab_size} ids; "
                "leave the flag out"
            )
        preset = self.preset or DEFAULT_PRESET
        size = NO_MERGES + data.merges if vocab_size is None else vocab_size
        others = {name: value for name, value in self.model.items() if name != "vocab_size"}
        model = ModelConfig.from_preset(preset, size, **{**RECIPES[self.recipe].model, **others})
        train = self._train_config(count_layer_parameters(model))
        if not train.shallow_blocks and train.shallow_share != TrainConfig.shallow_share:
            share = f"--shallow-share {train.shallow_share:g}"
            raise ConfigError(f"{share}: there are no --shallow-blocks; give them, too")
        return Plan(model, train, data, preset)

    def _plan_from(self, parent: Parent, old: Plan) -> Plan:
        """All settings of a run that begins with the weights of another."""
        fixed = {name: value for name, value in self.model.items() if name not in CHANGEABLE}
        fixed |= {"preset": self.preset} if self.preset else {}
        recorded = old.model.to_dict() | {"preset": old.preset}
        for name, value in fixed.items():
            if value != recorded[name]:
                raise ConfigError(
                    f"{flag_name(name)} {value}: the weights of {parent.place} have {recorded[name]}; "
                    "leave it out"
                )
        model = dataclasses.replace(old.model, **_extended(old.model, self.model))
        data = dataclasses.replace(self.data_config(), merges=old.data.merges)
        train = self._train_config(count_layer_parameters(old.model))
        # Whatever the recipe says, counts are for a new model, and what they have taught stays known.
        of_counts = {
            "bigram_passes": 0,
            "embedding_rate": old.train.embedding_rate,
            "shallow_blocks": 0,
        }
        kept: dict[str, Any] = {name: of_counts[name] for name in of_counts.keys() - self.train.keys()}
        train = dataclasses.replace(train, **kept)
        return Plan(model, train, data, old.preset, parent)

    def _train_config(self, n_layer_params: int) -> TrainConfig:
        """What was named, over the recipe for this size."""
        values = recipe(n_layer_params, self.train.get("lr"), self.recipe) | environment_settings()
        if self.is_timed or self.lengths:
            values["max_steps"] = 0  # follows, unless it is what was named
        config = TrainConfig(**{**values, **self.train})
        return dataclasses.replace(config, precision=native.choose_precision(config.precision))


def _extended(old: ModelConfig, wanted: dict[str, Any]) -> dict[str, Any]:
    """What changes of a model that is trained on: what is named, and what a longer window brings with it.

    Local attention sees as far as it did.  Where positions are to be scaled and nobody says how far, they are
    as far as the window grows.
    """
    changes = {name: value for name, value in wanted.items() if name in CHANGEABLE}
    seq_len = changes.get("seq_len", old.seq_len)
    if seq_len != old.seq_len:
        if old.positions == "learned":
            raise ConfigError(
                f"--seq-len {seq_len}: the model has learned {old.seq_len} positions and knows none beyond"
            )
        if old.attention != "full":
            seen = [old.heads_of(layer) for layer in range(old.n_layer)]
            changes |= {"window": max(one.window for one in seen)}
            changes |= {"global_stride": stride} if (stride := max(one.stride for one in seen)) else {}
    if changes.get("rope_scaling", "none") != "none":
        changes.setdefault("rope_factor", max(1.0, seq_len / old.seq_len))
    return changes


def section_of(setting: str) -> str:
    """Which config a setting belongs to."""
    for name, kind in SECTIONS.items():
        if setting in {field.name for field in dataclasses.fields(kind)} and not setting.startswith(INNER):
            return name
    raise ConfigError(f"there is no setting {setting!r}; microgpt train --help lists them, - written as _")


def _plain(name: str, value: Any) -> Any:
    """What a program wrote as JSON has it: one file for a list of files, a number of NumPy's, of threads."""
    if name in PLACES:
        return [source_place(place) for place in source_names(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if name in ("threads", "tokens") and type(value) is int:
        return str(value)
    return value


def environment_settings() -> dict[str, str]:
    """Training settings that environment variables give; what is named comes before them."""
    threads = threads_from_environment()
    return {"threads": threads} if threads else {}


def default_settings(preset: str, name: str = DEFAULT_RECIPE) -> dict[str, Any]:
    """The settings that a preset and a recipe decide."""
    size = count_layer_parameters(ModelConfig.from_preset(preset, NO_MERGES))
    return PRESETS[preset] | RECIPES[name].model | recipe(size, name=name)


def settings_of_recipe(plan: Plan) -> dict[str, Any]:
    """What its recipe set in a plan: what was not named otherwise, but for the length of the run."""
    size, name = count_layer_parameters(plan.model), plan.train.recipe
    made = RECIPES[name].model | recipe(size, plan.train.lr, name)
    has = plan.model.to_dict() | plan.train.to_dict()
    return {key: value for key, value in made.items() if has[key] == value and key != "max_steps"}


def merges_of(vocab_size: int, merges: int | None) -> int:
    """The merges that a vocabulary size asks for, beside what was said of merges."""
    asked = vocab_size - NO_MERGES
    if asked < 0:
        raise ConfigError(f"--vocab-size {vocab_size}: bytes and markers alone are {NO_MERGES}; give more")
    if asked > MAX_MERGES:
        raise ConfigError(f"--vocab-size {vocab_size}: expected at most {NO_MERGES + MAX_MERGES}")
    if merges not in (None, asked):
        raise ConfigError(
            f"--vocab-size {vocab_size} contradicts --merges {merges}: a vocabulary has {NO_MERGES} bytes "
            "and markers beside the merges; give one of the two"
        )
    return asked
