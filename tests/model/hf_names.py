"""How models of transformers are ours: their configuration as a `ModelConfig`, their tensors by our names.

The folders of `hf_tiny/` were made once with transformers 5.24 and random weights: `config.json` and
`model.safetensors` as `save_pretrained` writes them, `expected.npz` with ids, logits, loss and the gradient
of every parameter.  A family is a function (their configuration) -> (ours, translate), and translate a
function (tensors by their names) -> by ours, which only moves numbers about: so it holds for gradients, too.
"""

import numpy as np

from microgpt.model import ModelConfig

FAMILIES = {}


def family(*types):
    """Enter a function for these `model_type`s."""

    def enter(function):
        FAMILIES.update(dict.fromkeys(types, function))
        return function

    return enter


def ordered(weight, hs, order):
    """Rows of a projection (n hs, ...) with the channels of each head in another order."""
    return weight.reshape(-1, hs, *weight.shape[1:])[:, order].reshape(weight.shape)


def shape(theirs, **more):
    """What all configurations of the Llama kind say."""
    H = theirs["num_attention_heads"]
    return {
        "n_layer": theirs["num_hidden_layers"],
        "n_head": H,
        "n_embd": theirs["hidden_size"],
        "seq_len": theirs["max_position_embeddings"],
        "vocab_size": theirs["vocab_size"],
        "n_kv_head": theirs.get("num_key_value_heads", H),
        "n_inner": theirs["intermediate_size"],
        "rope_theta": float(theirs["rope_parameters"]["rope_theta"]),
        "norm_eps": theirs.get("rms_norm_eps", theirs.get("norm_epsilon", 1e-5)),
        "tied": theirs["tie_word_embeddings"],
        **more,
    }


def translation(config, blocks, outside, order=None):
    """translate, from names: ours -> one of theirs, or several that are stacked.

    blocks: of a layer, behind `h.i.` and `model.layers.i.`.  order: of the channels of query and key heads.
    """
    names = dict(outside)
    for i in range(config.n_layer):
        for ours, theirs in blocks.items():
            theirs = theirs if isinstance(theirs, tuple) else (theirs,)
            names[f"h.{i}.{ours}"] = tuple(f"model.layers.{i}.{name}" for name in theirs)

    def part(tensors, name):
        is_turned = order is not None and name.split(".")[-2] in ("q_proj", "k_proj")
        return ordered(tensors[name], config.head_size, order) if is_turned else tensors[name]

    def translate(tensors):
        stacks = {ours: (theirs,) if isinstance(theirs, str) else theirs for ours, theirs in names.items()}
        return {
            ours: np.concatenate([part(tensors, name) for name in stack]) for ours, stack in stacks.items()
        }

    return translate


QKV = tuple(f"self_attn.{name}_proj.weight" for name in "qkv")
QKV_BIAS = tuple(f"self_attn.{name}_proj.bias" for name in "qkv")
ATTENTION = {"attn.qkv.weight": QKV, "attn.proj.weight": "self_attn.o_proj.weight"}
NORMS = {"ln_1.weight": "input_layernorm.weight", "ln_2.weight": "post_attention_layernorm.weight"}
GATED = {
    "mlp.fc.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
    "mlp.proj.weight": "mlp.down_proj.weight",
}
PLAIN = {"mlp.fc.weight": "mlp.up_proj.weight", "mlp.proj.weight": "mlp.down_proj.weight"}
QK_NORMS = {f"attn.{name}_norm.weight": f"self_attn.{name}_norm.weight" for name in "qk"}


def ends(config):
    """Embedding, last norm and an untied head."""
    head = {} if config.tied else {"head.weight": "lm_head.weight"}
    norm = {"ln_f.weight": "model.norm.weight"} if config.norm_gain else {}
    return {"wte.weight": "model.embed_tokens.weight", **norm, **head}


@family("llama", "smollm3")
def llama(theirs):
    positions = " ".join("rope" if has else "none" for has in theirs.get("no_rope_layers", [1]))
    config = ModelConfig(**shape(theirs, mlp="swiglu", positions=positions))
    return config, translation(config, ATTENTION | NORMS | GATED, ends(config))


@family("qwen3")
def qwen3(theirs):
    config = ModelConfig(**shape(theirs, mlp="swiglu", qk_norm="head"))
    return config, translation(config, ATTENTION | NORMS | GATED | QK_NORMS, ends(config))


@family("olmo2")
def olmo2(theirs):
    config = ModelConfig(**shape(theirs, mlp="swiglu", qk_norm="whole", norm_place="after"))
    norms = {
        "ln_1_post.weight": "post_attention_layernorm.weight",
        "ln_2_post.weight": "post_feedforward_layernorm.weight",
    }
    return config, translation(config, ATTENTION | norms | GATED | QK_NORMS, ends(config))


@family("arcee")
def arcee(theirs):
    config = ModelConfig(**shape(theirs, mlp={"gelu_new": "gelu", "relu2": "relu2"}[theirs["hidden_act"]]))
    return config, translation(config, ATTENTION | NORMS | PLAIN, ends(config))


@family("nanochat")
def nanochat(theirs):
    """Its heads turn the other way round: with their halves exchanged they turn our way."""
    more = {"mlp": "relu2", "norm_gain": False, "embedding_norm": True, "qk_norm": "head"}
    cap = theirs["final_logit_softcapping"]
    config = ModelConfig(**shape(theirs, **more, qk_norm_after_rope=True, logit_cap=cap))
    mlp = {"mlp.fc.weight": "mlp.fc1.weight", "mlp.proj.weight": "mlp.fc2.weight"}
    order = np.roll(np.arange(config.head_size), config.head_size // 2)
    return config, translation(config, ATTENTION | mlp, ends(config), order)


@family("starcoder2")
def starcoder2(theirs):
    config = ModelConfig(**shape(theirs, norm="layernorm", bias="qkv proj mlp norm"))
    mlp = {"mlp.fc.weight": "mlp.c_fc.weight", "mlp.proj.weight": "mlp.c_proj.weight"}
    blocks = ATTENTION | NORMS | mlp
    biases = {ours.replace("weight", "bias"): _bias_of(name) for ours, name in blocks.items()}
    outside = ends(config) | {"ln_f.bias": "model.norm.bias"}
    return config, translation(config, blocks | biases, outside)


def _bias_of(names):
    return QKV_BIAS if names == QKV else names.replace("weight", "bias")


@family("gpt2")
def gpt2(theirs):
    """Its matrices are (in, out)."""
    config = ModelConfig(
        n_layer=theirs["n_layer"],
        n_head=theirs["n_head"],
        n_embd=theirs["n_embd"],
        seq_len=theirs["n_positions"],
        vocab_size=theirs["vocab_size"],
        norm="layernorm",
        positions="learned",
        bias="qkv proj mlp norm",
    )
    places = {
        "attn.c_attn": "attn.qkv",
        "attn.c_proj": "attn.proj",
        "mlp.c_fc": "mlp.fc",
        "mlp.c_proj": "mlp.proj",
    }

    def translate(tensors):
        ours = {}
        for name, tensor in tensors.items():
            name = name.removeprefix("transformer.")
            for their, our in places.items():
                if f".{their}." in name:
                    name, tensor = name.replace(their, our), tensor.T
            ours[name] = tensor
        return ours

    return config, translate


@family("gpt_neox")
def gpt_neox(theirs):
    """Its queries, keys and values lie head by head; the channels that turn are the first of each."""
    share = theirs["rope_parameters"]["partial_rotary_factor"]
    more = {"norm": "layernorm", "mlp": "gelu_exact", "bias": "qkv proj mlp norm"}
    parallel = theirs["use_parallel_residual"]
    config = ModelConfig(**shape(theirs, **more, parallel=parallel, rope_share=share))
    hs, pairs = config.head_size, config.rotation_of(0).n_pairs
    first, second, rest = np.arange(pairs), np.arange(pairs, 2 * pairs), np.arange(2 * pairs, hs)
    half = hs // 2 - pairs
    order = np.concatenate([first, rest[:half], second, rest[half:]])
    places = {
        "input_layernorm": "ln_1",
        "post_attention_layernorm": "ln_2",
        "attention.dense": "attn.proj",
        "mlp.dense_h_to_4h": "mlp.fc",
        "mlp.dense_4h_to_h": "mlp.proj",
    }

    def translate(tensors):
        whole = {"embed_out": "head", "lm_head": "head", "gpt_neox.embed_in": "wte"}
        ours = {}
        for name, tensor in tensors.items():
            module, _, what = name.rpartition(".")
            if module in whole:
                ours[f"{whole[module]}.{what}"] = tensor
            elif module == "gpt_neox.final_layer_norm":
                ours[f"ln_f.{what}"] = tensor
            elif module.endswith("query_key_value"):
                heads = tensor.reshape(config.n_head, 3, hs, *tensor.shape[1:])
                q, k, v = (heads[:, i].reshape(-1, *tensor.shape[1:]) for i in range(3))
                q, k = (ordered(x, hs, order) for x in (q, k))
                ours[f"h.{module.split('.')[2]}.attn.qkv.{what}"] = np.concatenate([q, k, v])
            else:
                _, _, i, place = module.split(".", 3)
                ours[f"h.{i}.{places[place]}.{what}"] = tensor
        return ours

    return config, translate


@family("diffllama")
def diffllama(theirs):
    config = ModelConfig(**shape(theirs, mlp="swiglu", mixer="differential"))
    lambdas = {f"attn.lambda_{name}": f"self_attn.lambda_{name}" for name in ("q1", "k1", "q2", "k2")}
    return config, translation(config, ATTENTION | NORMS | GATED | lambdas, ends(config))


@family("mixtral", "olmoe", "qwen2_moe")
def mixture(theirs):
    """Experts are tensors of their own on disk, and stacked where they are gradients."""
    kind = theirs["model_type"]
    more = {"n_expert": theirs.get("num_experts", theirs.get("num_local_experts")), "expert": "swiglu"}
    more["expert_inner"] = theirs.get("moe_intermediate_size", theirs["intermediate_size"])
    more["shared_expert_inner"] = theirs.get("shared_expert_intermediate_size", 0)
    more["balance_loss"] = theirs["router_aux_loss_coef"] if theirs["output_router_logits"] else 0.0
    more["renormalize"] = theirs.get("norm_topk_prob", True)
    others = {"olmoe": {"qk_norm": "whole"}, "qwen2_moe": {"bias": "qkv"}}.get(kind, {})
    config = ModelConfig(
        **shape(theirs, mlp="moe", top_k=theirs["num_experts_per_tok"], **more, **others),
        balance_by="token",
        balance_over="model",
    )
    blocks = ATTENTION | NORMS
    if kind == "olmoe":
        blocks = blocks | QK_NORMS
    if kind == "qwen2_moe":
        shared = {name.replace("mlp.", "mlp.shared."): theirs for name, theirs in GATED.items()}
        shared = {ours: _in_shared(names) for ours, names in shared.items()}
        gate = {"mlp.shared_gate.weight": "mlp.shared_expert_gate.weight"}
        blocks = blocks | shared | gate | {"attn.qkv.bias": QKV_BIAS}
    rest = translation(config, blocks, ends(config))
    at, names = (
        ("block_sparse_moe", ("w1", "w3", "w2"))
        if kind == "mixtral"
        else ("mlp", ("gate_proj", "up_proj", "down_proj"))
    )

    def translate(tensors):
        ours = rest(tensors)
        for i in range(config.n_layer):
            layer = f"model.layers.{i}"
            stacked = f"{layer}.mlp.experts.gate_up_proj" in tensors
            ours[f"h.{i}.mlp.router.weight"] = tensors[f"{layer}.{'mlp' if stacked else at}.gate.weight"]
            for e in range(config.n_expert):
                if stacked:
                    fc, proj = (
                        tensors[f"{layer}.mlp.experts.{name}"][e] for name in ("gate_up_proj", "down_proj")
                    )
                else:
                    gate, up, proj = (tensors[f"{layer}.{at}.experts.{e}.{name}.weight"] for name in names)
                    fc = np.concatenate([gate, up])
                ours[f"h.{i}.mlp.experts.{e}.fc.weight"] = fc
                ours[f"h.{i}.mlp.experts.{e}.proj.weight"] = proj
        return ours

    return config, translate


def _in_shared(names):
    return (
        tuple(_in_shared(name) for name in names)
        if isinstance(names, tuple)
        else names.replace("mlp.", "mlp.shared_expert.")
    )
