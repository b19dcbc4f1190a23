"""A small GPT of Megatron-core's under its own parallelism, schedules and optimizers, on CPUs with gloo.

Shapes: R rows of T+1 tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

import mistura
import on_cpu

VOCAB, LAYERS, ROWS, LENGTH, MICRO = 256, 4, 2, 16, 2
"""Rows and tokens of a micro-batch, and micro-batches of a step."""


@dataclass(frozen=True)
class Engine:
    """How the model is split over ranks, and which of Megatron's optimizers steps it."""

    ranks: int = 2
    tensor: int = 1
    pipeline: int = 1
    chunks: int = 1
    """Of the model on each rank (interleaved pipeline)."""
    expert: int = 1
    experts: int | None = None
    precision: str = "bf16"
    sharded: bool = True
    """The distributed optimizer."""
    overlap: bool = False
    """Of gradients' reduction and parameters' gathering with computing."""
    offload: bool = False
    """Masters are on the CPU (HybridDeviceOptimizer)."""
    tied: bool = False

    @property
    def data(self) -> int:
        """Data-parallel ranks."""
        return self.ranks // (self.tensor * self.pipeline)


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """One rank."""

    def __init__(self, engine: Engine, seed: int) -> None:
        on_cpu.begin()
        from megatron.core import parallel_state as mpu
        from megatron.core import tensor_parallel
        from megatron.core.distributed import finalize_model_grads
        from megatron.core.pipeline_parallel import get_forward_backward_func

        self.engine = engine
        mpu.initialize_model_parallel(
            engine.tensor, engine.pipeline, engine.chunks if engine.chunks > 1 else None, expert_model_parallel_size=engine.expert
        )
        tensor_parallel.model_parallel_cuda_manual_seed(seed)
        torch.manual_seed(seed)
        self.config, self.chunks = self._model(mpu)
        self.optimizer = self._optimizer()
        inner = [one.optimizer for one in getattr(self.optimizer, "chained_optimizers", [self.optimizer])]
        assert engine.offload == all(hasattr(i, "sub_optimizers") and i.gpu_params_map_cpu_copy for i in inner), "masters are elsewhere"
        self.config.grad_scale_func = self.optimizer.scale_loss
        self.config.finalize_model_grads_func = finalize_model_grads
        if engine.overlap:
            self.config.no_sync_func = self.chunks[0].no_sync
        self.run = get_forward_backward_func()
        self.data_parallel = mpu.get_data_parallel_rank(), mpu.get_data_parallel_world_size()
        self.layouts = [self._layout(mpu, chunk) for chunk in self.chunks]

    def _model(self, mpu: Any) -> tuple[Any, list[torch.nn.Module]]:
        from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
        from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
        from megatron.core.models.gpt.gpt_model import GPTModel
        from megatron.core.transformer.module import Float16Module
        from megatron.core.transformer.transformer_config import TransformerConfig

        e, dtype = self.engine, DTYPES[self.engine.precision]
        half = {"fp16": dtype == torch.float16, "bf16": dtype == torch.bfloat16}
        moe = {"num_moe_experts": e.experts, "moe_router_topk": 2, "moe_router_load_balancing_type": "none"} if e.experts else {}
        config = TransformerConfig(
            num_layers=LAYERS, hidden_size=32, num_attention_heads=4, ffn_hidden_size=64, gated_linear_unit=True, add_bias_linear=False,
            hidden_dropout=0.0, attention_dropout=0.0, persist_layer_norm=False, bias_dropout_fusion=False, masked_softmax_fusion=False,
            tensor_model_parallel_size=e.tensor, pipeline_model_parallel_size=e.pipeline, expert_model_parallel_size=e.expert,
            virtual_pipeline_model_parallel_size=e.chunks if e.chunks > 1 else None,
            use_cpu_initialization=True, params_dtype=dtype, pipeline_dtype=dtype, **half, **moe,
        )  # fmt: skip
        ddp = DistributedDataParallelConfig(
            grad_reduce_in_fp32=True, use_distributed_optimizer=e.sharded, overlap_grad_reduce=e.overlap, overlap_param_gather=e.overlap,
            bucket_size=4000 if e.overlap else None,
        )  # fmt: skip
        chunks = []
        for number in range(e.chunks):
            place = {"ignore_virtual": False, "vp_stage": number}
            model = GPTModel(
                config, get_gpt_layer_local_spec(num_experts=e.experts), VOCAB, 256, share_embeddings_and_output_weights=e.tied,
                pre_process=mpu.is_pipeline_first_stage(**place), post_process=mpu.is_pipeline_last_stage(**place),
                vp_stage=number if e.chunks > 1 else None,
            ).to(dtype)  # fmt: skip
            inner = model if dtype == torch.float32 else Float16Module(config, model)
            chunks.append(DistributedDataParallel(config, ddp, inner, disable_bucketing=number > 0))
        for chunk in chunks:
            chunk.broadcast_params()
        return config, chunks

    def _optimizer(self) -> Any:
        from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer

        e, dtype = self.engine, DTYPES[self.engine.precision]
        return get_megatron_optimizer(
            OptimizerConfig(
                optimizer="adam", lr=1e-2, weight_decay=0.1, clip_grad=1.0, params_dtype=dtype, fp16=dtype == torch.float16,
                bf16=dtype == torch.bfloat16, use_distributed_optimizer=e.sharded, overlap_param_gather=e.overlap,
                optimizer_cpu_offload=e.offload, optimizer_offload_fraction=1.0, overlap_cpu_optimizer_d2h_h2d=e.offload,
                pin_cpu_grads=False, pin_cpu_params=False, initial_loss_scale=2.0**16, min_loss_scale=1.0,
            ),
            self.chunks,
        )  # fmt: skip

    def _layout(self, mpu: Any, chunk: torch.nn.Module) -> Any:
        """As docs/recipes.md has it. Megatron numbers layers from 1 on, over the whole model."""
        from megatron.core.utils import get_attr_wrapped_model

        layers = get_attr_wrapped_model(chunk, "decoder").layers
        return mistura.layout.megatron(
            tp_rank=mpu.get_tensor_model_parallel_rank(), tp_size=mpu.get_tensor_model_parallel_world_size(),
            ep_rank=mpu.get_expert_model_parallel_rank(), ep_size=mpu.get_expert_model_parallel_world_size(),
            expert_tp_rank=mpu.get_expert_tensor_parallel_rank(), expert_tp_size=mpu.get_expert_tensor_parallel_world_size(),
            experts=self.engine.experts, first_layer=layers[0].layer_number - 1 if len(layers) else 0,
        )  # fmt: skip

    def forward(self, model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
        """Losses [R, T] on the last stage, what is handed on elsewhere."""
        length = tokens.shape[1] - 1
        positions = torch.arange(length).expand(tokens.shape[0], length)
        mask = torch.ones(1, 1, length, length).triu(1).bool()
        return model(tokens[:, :-1], positions, mask, labels=tokens[:, 1:])

    def schedule(self, batches: list[torch.Tensor]) -> float | None:
        """Forward and backward of micro-batches as Megatron runs them, gradients finished; the mean loss where it is known."""

        def forward_step(source: Iterator[torch.Tensor], model: torch.nn.Module) -> Any:
            return self.forward(model, next(source)), lambda out: (out.float().mean(), {"loss": out.detach().float().mean()})

        sources = [iter(batches) for _ in self.chunks]
        done = self.run(
            forward_step_func=forward_step, data_iterator=sources if len(sources) > 1 else sources[0], num_microbatches=len(batches),
            model=self.chunks if len(self.chunks) > 1 else self.chunks[0], seq_length=batches[0].shape[1] - 1,
            micro_batch_size=len(batches[0]), forward_only=False,
        )  # fmt: skip
        return float(sum(d["loss"] for d in done) / len(done)) if done else None

    def step(self, seed: int) -> tuple[float | None, bool, float | None]:
        """A step on batches of this data-parallel rank's own: its loss, whether it was applied, the gradient's norm."""
        draw = torch.Generator().manual_seed(seed * self.data_parallel[1] + self.data_parallel[0])
        for chunk in self.chunks:
            chunk.zero_grad_buffer()
        self.optimizer.zero_grad()
        first = torch.randint(VOCAB, (MICRO, ROWS, 1), generator=draw)
        loss = self.schedule(list((first + 3 * torch.arange(LENGTH + 1)) % VOCAB))
        applied, norm, _ = self.optimizer.step()
        return loss, applied, norm

    def probe(self, question: Any) -> Any:
        """For the gate. A pipeline runs its backward pass itself."""
        if self.engine.pipeline == 1:
            return self.forward(self.chunks[0], question.tokens).float().mean()
        loss = self.schedule(list(question.tokens.split(2)))
        return mistura.Answer(loss, scale=float(self.optimizer.get_loss_scale()))

    def join(self, seed: bool) -> Any:
        """As docs/recipes.md has it."""
        return mistura.join(
            self.chunks, self.optimizer, layout=self.layouts, rate="own", own_data=True, seed=seed,
            data_parallel=self.data_parallel if dist.get_world_size() > 1 else None,
            probe=mistura.Probe(self.probe, self.engine.precision),
        )  # fmt: skip
