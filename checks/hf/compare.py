#!/usr/bin/env python3
"""Compare the logits of mistura with those of the Hugging Face library, in fp32.

For each case a model with random weights is made and saved by the library, taken
in by `mistura import`, and written again by `mistura export` in fp32 and bf16; for
one more a model is trained by mistura from a config.json and exported. Each
time both programs read the same tokens and their logits are compared. What the library
has saved must come back with the same names and bits, and its own messages about
tensors that are missing or unused count as failures.

The families bailing_moe and bailing_moe_v2 are not part of the library: --code is
the folder with the files that their makers publish beside the weights
(configuration_*.py, modeling_*.py). They are run, so look at them first.
"""
import argparse
import datetime
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import safetensors.torch
import torch
import transformers

TOLERANCE = 1e-4  # of the largest logit; fp32
VOCAB = 307
TOKENS = [(i * 89 + i * i * 13) % VOCAB for i in range(48)]

COMMON = dict(
    vocab_size=VOCAB, hidden_size=48, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, head_dim=16,
    intermediate_size=80, moe_intermediate_size=32, num_experts=8, num_experts_per_tok=3, norm_topk_prob=True,
    rms_norm_eps=1e-6, initializer_range=0.15, max_position_embeddings=512, tie_word_embeddings=False,
    hidden_act="silu", rope_theta=10000.0, attention_dropout=0.0, pad_token_id=None, eos_token_id=7, bos_token_id=None,
)
BAILING = dict(COMMON, use_bias=False, use_qkv_bias=False, rope_scaling=None, embedding_dropout=0.0, output_dropout=0.0)
V2 = dict(
    BAILING, num_experts=16, n_group=4, topk_group=2, use_qk_norm=True, moe_router_enable_expert_bias=True, routed_scaling_factor=2.5,
    partial_rotary_factor=0.5, num_nextn_predict_layers=0, num_shared_experts=1, first_k_dense_replace=1, score_function="sigmoid",
)
CASES = {
    "qwen3_moe": [
        ("norms of q and k, 6/2 heads, weights to sum 1", COMMON),
        ("tied embeddings, weights as they are, first layer dense", dict(COMMON, tie_word_embeddings=True, norm_topk_prob=False, mlp_only_layers=[0])),
    ],
    "bailing_moe": [
        ("NormHead, 2 shared experts, first layer dense", dict(BAILING, norm_head=True, num_shared_experts=2, first_k_dense_replace=1)),
        ("no NormHead, no shared experts, tied embeddings", dict(BAILING, norm_head=False, num_shared_experts=None, first_k_dense_replace=0, tie_word_embeddings=True)),
    ],
    "bailing_moe_v2": [
        ("sigmoid, bias, 2 of 4 groups, half of each head turned, scale 2.5", V2),
        ("no groups, no norms of q and k, whole heads turned, bias off", dict(
            V2, n_group=1, topk_group=1, use_qk_norm=False, moe_router_enable_expert_bias=False, routed_scaling_factor=1.0, partial_rotary_factor=1.0)),
    ],
}
CLASSES = {
    "bailing_moe": ("configuration_bailing_moe", "BailingMoeConfig", "modeling_bailing_moe", "BailingMoeForCausalLM"),
    "bailing_moe_v2": ("configuration_bailing_moe_v2", "BailingMoeV2Config", "modeling_bailing_moe_v2", "BailingMoeV2ForCausalLM"),
}


class Reader:
    """The library's classes of one family."""

    def __init__(self, family, code):
        if family not in CLASSES:
            self.config = transformers.Qwen3MoeConfig
            self.model = transformers.Qwen3MoeForCausalLM
            return
        # The published files import each other relatively, as a package.
        package = pathlib.Path(tempfile.mkdtemp()) / "published"
        shutil.copytree(code, package)
        (package / "__init__.py").touch()
        sys.path.insert(0, str(package.parent))
        configs, config, models, model = CLASSES[family]
        self.config = getattr(__import__("published." + configs, fromlist=[config]), config)
        self.model = getattr(__import__("published." + models, fromlist=[model]), model)

    def make(self, fields, folder, seed):
        """Saves a model with random weights, gains and biases among them."""
        torch.manual_seed(seed)
        model = self.model(self.config(**fields)).eval()
        with torch.no_grad():
            for name, p in model.named_parameters():
                if "norm" in name:
                    p.copy_(1 + 0.2 * torch.randn_like(p))
            if fields.get("moe_router_enable_expert_bias"):
                for name, b in model.named_buffers():
                    if name.endswith("expert_bias"):
                        b.copy_(0.1 * torch.randn_like(b))
        model.save_pretrained(folder, max_shard_size="200KB")
        return self.logits(model)

    def read(self, folder):
        config = self.config.from_pretrained(folder)
        model, info = self.model.from_pretrained(folder, config=config, torch_dtype=torch.float32, output_loading_info=True)
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if info.get(kind):
                raise SystemExit(f"{folder}: the library reports {kind}: {info[kind]}")
        return self.logits(model.eval())

    def logits(self, model):
        with torch.no_grad():
            return model(input_ids=torch.tensor([TOKENS]), use_cache=False).logits[0].float()


def mistura(binary, *args):
    done = subprocess.run([binary, *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"mistura {' '.join(map(str, args))}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def ours(binary, folder):
    seen = mistura(binary, "debug", "logits", "--from", folder, "--tokens", ",".join(map(str, TOKENS)))
    return torch.tensor(seen["logits"]), seen["loss"]


class Report:
    def __init__(self):
        self.failed = False

    def compare(self, what, mine, loss, theirs):
        worst = (mine - theirs).abs().max().item()
        relative = worst / theirs.abs().max().item()
        wanted = torch.nn.functional.cross_entropy(theirs[:-1].double(), torch.tensor(TOKENS[1:])).item()
        ok = relative <= TOLERANCE and abs(loss - wanted) <= TOLERANCE * wanted
        self.failed = self.failed or not ok
        print(f"| {what} | {theirs.abs().max().item():.2f} | {worst:.2e} | {relative:.2e} | {abs(loss / wanted - 1):.1e} | {'yes' if ok else 'NO'} |", flush=True)



def check(report, binary, reader, family, what, fields, work):
    theirs = reader.make(fields, work / "made", seed=len(what))
    mistura(binary, "import", work / "made", "--out", work / "in", "--json")
    mine, loss = ours(binary, work / "in")
    report.compare(f"{family}: {what}; made by the library, imported", mine, loss, theirs)
    layouts = ["split", "grouped"] if family == "qwen3_moe" and int(transformers.__version__.split(".")[0]) >= 5 else ["split"]
    for layout in layouts:
        out = work / ("out-" + layout)
        mistura(binary, "export", "--format", "hf", "--from", work / "in", "--experts", layout, "--shard-size", "300KB", "--json", out)
        if layout == "split":
            same_bits(work / "made", out)
        report.compare(f"the same, exported ({layout}) and read by the library", mine, loss, reader.read(out))
    check_bf16(report, binary, reader, work)


def same_bits(made, out):
    """What the library has saved comes back with the same names and bits."""
    before, after = tensors(made), tensors(out)
    if names := before.keys() ^ after.keys():
        raise SystemExit(f"tensors of one side only: {sorted(names)}")
    if others := [name for name, t in before.items() if t.dtype != after[name].dtype or not torch.equal(t, after[name])]:
        raise SystemExit(f"tensors that have changed: {others}")


def tensors(folder):
    found = {}
    for file in folder.glob("*.safetensors"):
        found.update(safetensors.torch.load_file(file))
    return found


def check_bf16(report, binary, reader, work):
    """Both read the weights of a bf16 export, and compute in fp32."""
    mistura(binary, "export", "--format", "hf", "--from", work / "in", "--dtype", "bf16", "--json", work / "bf16")
    if (kind := reader.config.from_pretrained(work / "bf16").torch_dtype) != torch.bfloat16:
        raise SystemExit(f"the library takes the bf16 export for {kind}")
    mistura(binary, "import", work / "bf16", "--out", work / "in-bf16", "--json")
    mine, loss = ours(binary, work / "in-bf16")
    report.compare("the same, exported in bf16, read by both", mine, loss, reader.read(work / "bf16"))


def check_trained(report, binary, reader, family, fields, work):
    """A model that mistura has made and trained from a config.json."""
    mistura(binary, "train", "--model", work / "made", "--data", pathlib.Path(__file__).resolve(), "--tokens", "16k",
            "--islands", "1", "--out", work / "run", "--json")
    mine, loss = ours(binary, work / "run")
    mistura(binary, "export", "--format", "hf", "--from", work / "run", "--json", work / "trained")
    report.compare(f"{family}: made and trained by mistura from that config.json, exported", mine, loss, reader.read(work / "trained"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mistura", required=True, help="the program")
    parser.add_argument("--family", choices=sorted(CASES), required=True)
    parser.add_argument("--code", help="folder of the published code of a family that is not in the library")
    args = parser.parse_args()
    if args.family in CLASSES and not args.code:
        parser.error(f"{args.family} needs --code")
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    reader, report = Reader(args.family, args.code), Report()
    print(f"{datetime.date.today()}, {args.family}: transformers {transformers.__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}\n")
    print("| case | largest logit | largest difference | relative to the largest logit | loss, relative | within 1e-4 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for i, (what, fields) in enumerate(CASES[args.family]):
        with tempfile.TemporaryDirectory() as folder:
            work = pathlib.Path(folder)
            check(report, args.mistura, reader, args.family, what, fields, work)
            if i == 0:
                check_trained(report, args.mistura, reader, args.family, fields, work)
    sys.exit(report.failed)


if __name__ == "__main__":
    main()
