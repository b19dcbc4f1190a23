"""A training step of the engine's model in PyTorch, as fast as we know how to write it without leaving
PyTorch: the other side of bench/engine. It answers lines on stdin with lines on stdout, both JSON.

What it is given, beside the identical model, batch and weights:
  - weights packed for the purpose: q, k and v as one matrix, gate and up as one, the experts stacked;
  - experts by sorted tokens: one loop over experts that writes into one buffer (out=), no index_add;
  - hand-written backward passes for RMSNorm, SwiGLU, grouped experts and gathers, which save autograd's
    intermediate tensors;
  - heads that share keys stacked along the queries, so that no key is repeated;
  - AdamW as foreach or over one flat vector, whichever is quicker;
  - denormals flushed to zero.
"""

import json
import os
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F


class RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gain, eps):
        inv = torch.rsqrt(torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps))
        normed = x * inv
        ctx.save_for_backward(normed, inv, gain)
        return normed * gain

    @staticmethod
    def backward(ctx, dy):
        normed, inv, gain = ctx.saved_tensors
        scaled = dy * gain
        shift = (scaled * normed).mean(-1, keepdim=True)
        return torch.addcmul(scaled, normed, shift, value=-1).mul_(inv), (dy * normed).sum(0), None


class SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate_up):
        gate, up = gate_up.chunk(2, -1)
        sigma = torch.sigmoid(gate)
        silu = gate * sigma
        ctx.save_for_backward(gate_up, sigma, silu)
        return silu * up

    @staticmethod
    def backward(ctx, dy):
        gate_up, sigma, silu = ctx.saved_tensors
        up = gate_up.chunk(2, -1)[1]
        out = torch.empty_like(gate_up)
        d_gate, d_up = out.chunk(2, -1)
        torch.mul(dy, silu, out=d_up)
        slope = torch.addcmul(sigma, silu, 1 - sigma)
        torch.mul(dy * up, slope, out=d_gate)
        return out


class Grouped(torch.autograd.Function):
    """Rows of x from bounds[e] to bounds[e+1] times the transpose of weight[e]."""

    @staticmethod
    def forward(ctx, x, weight, bounds):
        ctx.save_for_backward(x, weight)
        ctx.bounds = bounds
        y = x.new_empty(x.shape[0], weight.shape[1])
        for e in range(weight.shape[0]):
            i, j = bounds[e], bounds[e + 1]
            if i < j:
                torch.mm(x[i:j], weight[e].t(), out=y[i:j])
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        dx, dw = torch.empty_like(x), torch.empty_like(weight)
        for e in range(weight.shape[0]):
            i, j = ctx.bounds[e], ctx.bounds[e + 1]
            if i < j:
                torch.mm(dy[i:j], weight[e], out=dx[i:j])
                torch.mm(dy[i:j].t(), x[i:j], out=dw[e])
            else:
                dw[e].zero_()
        return dx, dw, None


class ToGroups(torch.autograd.Function):
    """Rows of x [N, D] in the order of the groups [NK, D]; place says where each pair went."""

    @staticmethod
    def forward(ctx, x, source, place):
        ctx.place = place
        return x.index_select(0, source)

    @staticmethod
    def backward(ctx, dy):
        return dy.index_select(0, ctx.place.flatten()).view(*ctx.place.shape, -1).sum(1), None, None


class FromGroups(torch.autograd.Function):
    """Weighted sum [N, D] of each token's rows of y [NK, D]."""

    @staticmethod
    def forward(ctx, y, weight, order, place):
        pairs = y.index_select(0, place.flatten()).view(*place.shape, -1)
        ctx.save_for_backward(pairs, weight)
        ctx.order = order
        return torch.bmm(weight.unsqueeze(1), pairs).squeeze(1)

    @staticmethod
    def backward(ctx, dy):
        pairs, weight = ctx.saved_tensors
        d_pairs = weight.unsqueeze(-1) * dy.unsqueeze(1)
        d_weight = torch.bmm(pairs, dy.unsqueeze(-1)).squeeze(-1)
        return d_pairs.flatten(0, 1).index_select(0, ctx.order), d_weight, None, None


class Peer:
    def __init__(self, job):
        self.cfg, self.rows, self.seq = job["model"], job["rows"], job["seq"]
        self.job = job
        flat = np.fromfile(job["params"], dtype="<f4")
        self.read(flat)
        self.tokens = torch.from_numpy(np.fromfile(job["tokens"], dtype="<i4").reshape(-1, self.rows, self.seq + 1)).long()
        self.tables()
        self.optimizer = self.make_optimizer()
        self.at = 0

    def read(self, flat):
        """Takes the flat vector of the engine apart and stacks what belongs together."""
        by_name = {}
        for t in self.job["tensors"]:
            size = int(np.prod(t["shape"]))
            by_name[t["name"]] = torch.from_numpy(flat[t["offset"]:t["offset"] + size].copy()).view(*t["shape"])
        get = by_name.__getitem__
        self.embedding, self.norm, self.head = get("embedding"), get("norm"), get("head")
        self.layers, self.decayed, self.plain = [], [self.head], [self.embedding, self.norm]
        for l in range(self.cfg["layers"]):
            p = f"layers.{l}."
            experts = range(self.cfg["experts"])
            layer = {
                "attn_norm": get(p + "attention.norm"),
                "qkv": torch.cat([get(p + "attention." + n) for n in "qkv"]),
                "o": get(p + "attention.o"),
                "mlp_norm": get(p + "mlp.norm"),
                "router": get(p + "router"),
                "gate_up": torch.stack([torch.cat([get(f"{p}experts.{e}.gate"), get(f"{p}experts.{e}.up")]) for e in experts]),
                "down": torch.stack([get(f"{p}experts.{e}.down") for e in experts]),
                "shared_gate_up": torch.cat([get(p + "shared.gate"), get(p + "shared.up")]),
                "shared_down": get(p + "shared.down"),
            }
            self.layers.append(layer)
            self.plain += [layer["attn_norm"], layer["mlp_norm"]]
            self.decayed += [layer[n] for n in ("qkv", "o", "router", "gate_up", "down", "shared_gate_up", "shared_down")]

    def tables(self):
        c, half = self.cfg, self.cfg["head_dim"] // 2
        angle = torch.arange(self.seq, dtype=torch.float64)[:, None] * c["rope_theta"] ** (-torch.arange(half, dtype=torch.float64) / half)
        cos, sin = angle.cos().float(), angle.sin().float()
        self.cos = torch.cat([cos, cos], -1)[None, :, None, :]  # [1, T, 1, d]
        self.sin = torch.cat([-sin, sin], -1)[None, :, None, :]
        repeat = c["heads"] // c["kv_heads"]
        mask = torch.full((self.seq, self.seq), float("-inf")).triu(1)
        self.mask = mask.repeat(repeat, 1)  # [repeat*T, T]

    def make_optimizer(self):
        """AdamW over the tensors as they are, or over one flat vector for each kind of decay."""
        if self.job["optimizer"] == "flat":
            groups = [self.flatten(self.decayed), self.flatten(self.plain)]
            foreach = False
        else:
            for p in self.decayed + self.plain:
                p.requires_grad_(True)
            groups, foreach = [self.decayed, self.plain], self.job["optimizer"] == "foreach"
        return torch.optim.AdamW([
            {"params": groups[0], "weight_decay": 0.1}, {"params": groups[1], "weight_decay": 0.0},
        ], lr=self.job["rate"], betas=(0.9, 0.95), eps=1e-8, foreach=foreach)

    def flatten(self, params):
        flat = torch.cat([p.flatten() for p in params])
        flat.grad, at = torch.zeros_like(flat), 0
        for p in params:
            p.data = flat[at:at + p.numel()].view(p.shape)
            p.requires_grad_(True)
            p.grad = flat.grad[at:at + p.numel()].view(p.shape)
            at += p.numel()
        return [flat]

    def turn(self, x):
        return x * self.cos + x.roll(self.cfg["head_dim"] // 2, -1) * self.sin

    def attention(self, layer, x):
        c, b, t = self.cfg, self.rows, self.seq
        d, heads, kv = c["head_dim"], c["heads"], c["kv_heads"]
        repeat = heads // kv
        qkv = F.linear(RMSNorm.apply(x, layer["attn_norm"], c["norm_eps"]), layer["qkv"]).view(b, t, heads + 2 * kv, d)
        turned = self.turn(qkv[:, :, :heads + kv])
        q = turned[:, :, :heads].transpose(1, 2).reshape(b * kv, repeat * t, d)
        k = turned[:, :, heads:].transpose(1, 2).reshape(b * kv, t, d)
        v = qkv[:, :, heads + kv:].transpose(1, 2).reshape(b * kv, t, d)
        weights = torch.softmax(torch.baddbmm(self.mask, q, k.transpose(1, 2), alpha=d ** -0.5), -1)
        out = torch.bmm(weights, v).view(b, heads, t, d).transpose(1, 2).reshape(b * t, heads * d)
        return F.linear(out, layer["o"])

    def experts(self, layer, m, losses):
        c, n, k = self.cfg, m.shape[0], self.cfg["top_k"]
        logits = F.linear(m, layer["router"])
        scores = torch.softmax(logits, -1)
        choice = logits.detach().topk(k, -1)[1]
        weight = scores.gather(1, choice)
        weight = weight / weight.sum(-1, keepdim=True)
        flat = choice.flatten()
        order = flat.argsort(stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(n * k)
        place = place.view(n, k)
        counts = torch.zeros(self.rows, c["experts"]).scatter_add_(
            1, choice.view(self.rows, -1), torch.ones(self.rows, self.seq * k))
        bounds = [0] + counts.sum(0).cumsum(0).long().tolist()
        # Both losses by sequence, summed over sequences (arXiv 2503.05139, section 3.4).
        mean = scores.view(self.rows, self.seq, -1).mean(1)
        balance = (counts * mean).sum() * (c["experts"] / (self.seq * k))
        z = logits.logsumexp(-1).square().sum() / self.seq
        losses.append(c["balance_coef"] * balance + c["z_coef"] * z)
        x = ToGroups.apply(m, order.div(k, rounding_mode="floor"), place)
        y = Grouped.apply(SwiGLU.apply(Grouped.apply(x, layer["gate_up"], bounds)), layer["down"], bounds)
        return FromGroups.apply(y, weight, order, place)

    def loss(self, batch):
        c = self.cfg
        x = F.embedding(batch[:, :-1].reshape(-1), self.embedding)
        losses = []
        for layer in self.layers:
            x = x + self.attention(layer, x)
            m = RMSNorm.apply(x, layer["mlp_norm"], c["norm_eps"])
            shared = F.linear(SwiGLU.apply(F.linear(m, layer["shared_gate_up"])), layer["shared_down"])
            x = x + shared + self.experts(layer, m, losses)
        final = RMSNorm.apply(x, self.norm, c["norm_eps"])
        if c["norm_head"]:
            final = final * (1 / (torch.linalg.vector_norm(self.head.detach(), dim=0) + 1e-7))
        cross = F.cross_entropy(F.linear(final, self.head), batch[:, 1:].reshape(-1))
        return cross, cross + sum(losses) / self.rows

    def step(self):
        batch = self.tokens[self.at % len(self.tokens)]
        self.at += 1
        flat = self.job["optimizer"] == "flat"
        self.optimizer.zero_grad(set_to_none=not flat)
        cross, total = self.loss(batch)
        total.backward()
        norm = self.clip()
        self.optimizer.step()
        return float(cross), float(norm)

    def check(self):
        """Loss and gradient norm of the first batch; the norm in float64, for torch's own is good to 4e-4 only."""
        self.optimizer.zero_grad(set_to_none=False)
        cross, total = self.loss(self.tokens[0])
        total.backward()
        params = [p for g in self.optimizer.param_groups for p in g["params"]]
        return float(cross), float(sum(p.grad.double().square().sum() for p in params).sqrt())

    def clip(self):
        params = [p for g in self.optimizer.param_groups for p in g["params"]]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p.grad) for p in params]))
        if norm > 1:
            for p in params:
                p.grad.mul_(1 / (norm + 1e-6))
        return norm


def main():
    torch.set_flush_denormal(True)
    job = json.loads(sys.stdin.readline())
    torch.set_num_threads(job["threads"])
    peer = Peer(job)
    for line in sys.stdin:
        steps = json.loads(line)["steps"]
        began = time.perf_counter()
        loss, norm = peer.check() if steps == 0 else (0, 0)
        for _ in range(steps):
            loss, norm = peer.step()
        print(json.dumps({
            "seconds": time.perf_counter() - began, "loss": loss, "gradient_norm": norm,
            "torch": torch.__version__, "core_type": os.environ.get("OPENBLAS_CORETYPE", ""),
        }), flush=True)


if __name__ == "__main__":
    main()
